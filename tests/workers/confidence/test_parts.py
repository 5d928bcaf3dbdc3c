"""Boxes, masks and lines: which are read, how likely they are right, and what they say of their image."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from winnow_workers.boxes import softmin
from winnow_workers.confidence.calibrator import Calibrator, FittedOn, Subject, fit_calibrator
from winnow_workers.confidence.features import Features, Floats, features
from winnow_workers.confidence.part_curves import fit_part_curves
from winnow_workers.confidence.parts import Bools, Parts, parts_of, summary

BOX = pa.struct(
    [("label", pa.string()), ("score", pa.float32()), ("is_output", pa.bool_()), ("box", pa.list_(pa.float32(), 4))]
)
OF_CLASS = {"cat": 1.0, "dog": 3.0, "newt": 2.0}  # P(right) = score to this power


def boxes(n: int, seed: int) -> tuple[Features, Floats]:
    """n images of zero to five boxes, newts being rare; and the true probability of every box."""
    rng = np.random.default_rng(seed)
    rows, true = [], []
    for _ in range(n):
        scores = rng.uniform(0.05, 1.0, rng.integers(0, 6)).astype(np.float32)
        labels = rng.choice(list(OF_CLASS), len(scores), p=[0.49, 0.5, 0.01])
        listed = [
            {"label": str(la), "score": float(s), "is_output": bool(s >= 0.5), "box": [x, 0.0, x + 9.0, 9.0]}
            for la, s, x in zip(labels, scores, rng.uniform(0, 90, len(scores)).tolist(), strict=True)
        ]
        true += [float(s) ** OF_CLASS[str(la)] for la, s in zip(labels, scores, strict=True)]
        rows.append({"score": 0.5, "boxes": listed})
    kind = pa.struct([("score", pa.float32()), ("boxes", pa.list_(BOX))])
    return features("detect", pa.array(rows, kind)), np.array(true)


def judged(found: Features, true: Floats, seed: int) -> tuple[Features, Bools]:
    """With outcomes of all boxes, and whether an image's claims are right and nothing else in it is."""
    assert found.parts is not None
    right = np.random.default_rng(seed).uniform(size=len(true)) < true
    wrong = right != found.parts.claimed
    ok = np.bincount(found.parts.owners[wrong], minlength=found.parts.n) == 0
    return replace(found, parts=replace(found.parts, ok=right)), ok


def learned(n: int = 1500, seed: int = 1) -> Calibrator:
    found, ok = judged(*boxes(n, seed), seed)
    subject = Subject(task="things", operator="detect", model="m", task_digest="t")
    draw = FittedOn(labels=0, right=0, runs=("0001",), source="truth")
    return fit_calibrator(subject, found, ok, population=found.score, fitted_on=draw)


def test_parts_of__nulls_and_lines_without_text() -> None:
    line = [{"text": "ab1", "score": 0.5}, {"text": "", "score": 0.9}]
    found = parts_of("ocr", pa.array([{"lines": line}, {"lines": None}, {"lines": []}, {"lines": line[:1]}]))
    assert found.owners.tolist() == [0, 3]
    assert found.columns["log_joint"] == pytest.approx([3 * np.log(0.5)] * 2)
    assert found.columns["clear"].tolist() == [-2.0, -2.0]
    area = [{"label": "a", "score": 0.7, "is_output": None, "area_px": 9}]
    masks = parts_of("segment", pa.chunked_array([pa.array([{"masks": area}]), pa.array([{"masks": area}])]))
    assert masks.owners.tolist() == [0, 1]
    assert masks.claimed.all()


def test_take__keeps_the_parts_of_the_chosen_in_their_new_order() -> None:
    parts = boxes(50, 3)[0].parts
    assert parts is not None
    chosen = np.array([7, 3, 30])
    found = parts.take(chosen)
    for new, old in enumerate(chosen):
        assert (
            found.columns["score"][found.owners == new].tolist() == parts.columns["score"][parts.owners == old].tolist()
        )
    mask = np.zeros(50, np.bool_)
    mask[chosen] = True
    assert len(parts.take(mask)) == len(found)


def test_summary__is_the_plain_computation() -> None:
    claimed = np.array([True, True, False, False])
    parts = Parts(3, np.array([0, 0, 0, 2]), np.array(["a"] * 4), claimed, {})
    found = summary(parts, np.array([0.9, 0.6, 0.3, 0.2]))
    assert np.exp(found["log_claims"]) == pytest.approx([0.54, 1.0, 1.0])
    assert np.exp(found["log_all"]) == pytest.approx([0.54 * 0.7, 1.0, 0.8])
    assert found["softmin"] == pytest.approx([softmin(np.array([0.9, 0.6, 0.7])), 1.0, 0.8])
    assert found["weakest"].tolist() == [0.6, 1.0, 1.0]
    assert found["few"].tolist() == [-2.0, 0.0, 0.0]


def test_part_curves__each_class_has_its_own_and_rare_ones_share() -> None:
    found, true = boxes(1500, 1)
    fitted = fit_part_curves(judged(found, true, 1)[0].parts or pytest.fail("no parts"))
    assert fitted is not None
    curves, held_out = fitted
    assert set(curves.by_class) == {"cat", "dog"}
    assert curves.form.endswith("score")
    fresh, fresh_true = boxes(1500, 2)
    assert fresh.parts is not None
    common = fresh.parts.classes != "newt"
    assert np.abs(curves(fresh.parts) - fresh_true)[common].mean() < 0.03
    assert np.abs(held_out - true).mean() < 0.05


def test_p_ok__of_images_from_their_boxes() -> None:
    calibrator = learned()
    found, true = boxes(3000, 2)
    assert found.parts is not None
    agrees = np.where(found.parts.claimed, true, 1 - true)
    wanted = np.exp(np.bincount(found.parts.owners, np.log(agrees), minlength=3000))
    p_ok = calibrator.p_ok(found)
    assert np.abs(p_ok - wanted).mean() < 0.05
    assert calibrator.fields == (
        "score",
        "boxes.list.element.label",
        "boxes.list.element.score",
        "boxes.list.element.is_output",
        "boxes.list.element.box",
    )
    again = Calibrator.model_validate_json(calibrator.model_dump_json())
    assert again.digest == calibrator.digest == learned().digest
    assert np.array_equal(again.p_ok(found), p_ok)


def test_p_ok__where_nothing_was_ever_found() -> None:
    kind = pa.struct([("score", pa.float32()), ("boxes", pa.list_(BOX))])
    rows = features("detect", pa.array([{"score": 0.5 + i / 400, "boxes": []} for i in range(200)], kind))
    assert rows.parts is not None
    rows = replace(rows, parts=replace(rows.parts, ok=np.zeros(0, np.bool_)))
    subject = Subject(task="things", operator="detect", model="m", task_digest="t")
    draw = FittedOn(labels=0, right=0, runs=(), source="truth")
    calibrator = fit_calibrator(subject, rows, np.arange(200) % 2 == 0, population=rows.score, fitted_on=draw)
    assert calibrator.parts is None
    assert np.isfinite(calibrator.p_ok(boxes(20, 4)[0])).all()


def test_parts_of__boxes_over_each_other_are_less_apart() -> None:
    places = [[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], None, [40.0, 40.0, 50.0, 50.0]]
    listed = [{"label": "a", "score": s, "box": box} for s, box in zip((0.9, 0.6, 0.5, 0.3), places, strict=True)]
    kind = pa.struct([("score", pa.float32()), ("boxes", pa.list_(BOX))])
    rows = [{"boxes": listed[:1]}, {"boxes": []}, {"boxes": listed}, {"boxes": None}]
    found = parts_of("detect", pa.array(rows, kind))
    third = 50 / 150
    assert found.columns["apart"] == pytest.approx([0, -0.6 * third, -0.9 * third, 0, 0])


def with_nothing_put_out(seed: int, *, right: float) -> tuple[Features, Bools]:
    """300 images with one sure box, of which 270 are right, and 60 where nothing is put out; `right`: of those."""
    rng = np.random.default_rng(seed)
    place = [0.0, 0.0, 9.0, 9.0]
    full = [[{"label": "a", "score": rng.uniform(0.9, 1.0), "is_output": True, "box": place}] for _ in range(300)]
    rows = [{"score": 0.9, "boxes": one} for one in (*full, *[[]] * 60)]
    found = features("detect", pa.array(rows, pa.struct([("score", pa.float32()), ("boxes", pa.list_(BOX))])))
    assert found.parts is not None
    ok = np.concatenate([np.arange(300) < 270, np.arange(60) < 60 * right]).astype(np.bool_)
    return replace(found, parts=replace(found.parts, ok=ok[:300])), ok


def test_p_ok__of_images_where_nothing_is_put_out_is_their_own() -> None:
    """No box speaks against them: by what boxes say they would be the surest of all."""
    found, ok = with_nothing_put_out(1, right=0.1)
    subject = Subject(task="things", operator="detect", model="m", task_digest="t")
    draw = FittedOn(labels=0, right=0, runs=(), source="truth")
    calibrator = fit_calibrator(subject, found, ok, population=found.score, fitted_on=draw)
    assert calibrator.empty is not None
    assert (calibrator.empty.labels, calibrator.empty.right) == (60, 6)
    p_ok = Calibrator.model_validate_json(calibrator.model_dump_json()).p_ok(found)
    assert p_ok[300:] == pytest.approx([0.1] * 60)
    assert p_ok[:300].mean() == pytest.approx(0.9, abs=0.02)
    always = with_nothing_put_out(1, right=0.9)[1]
    assert fit_calibrator(subject, found, always, population=found.score, fitted_on=draw).empty is None


def pages(n: int, silent: int) -> Features:
    """n pages of one line whose score is their number over n; then `silent` ones without text, and a failed one."""
    line = pa.struct([("text", pa.string()), ("score", pa.float32())])
    kind = pa.struct([("score", pa.float32()), ("lines", pa.list_(line))])
    read = [{"score": at / n, "lines": [{"text": "abc", "score": at / n}]} for at in range(n)]
    blank = [{"score": None, "lines": []}] * silent
    return features("ocr", pa.array([*read, *blank, {"score": None, "lines": None}], kind))


@pytest.mark.parametrize(("silent", "right", "p_ok"), [(60, 14, 15 / 62), (20, 20, 21 / 22), (19, 9, None)])
def test_p_ok__of_pages_without_text_is_how_often_there_truly_is_none(
    silent: int, right: int, p_ok: float | None
) -> None:
    subject = Subject(task="text", operator="ocr", model="m", task_digest="t")
    draw = FittedOn(labels=0, right=0, runs=(), source="truth")
    found = pages(200, silent)
    ok = np.concatenate([np.arange(200) > 60, np.arange(silent) < right, [False]])
    calibrator = fit_calibrator(subject, found, ok, population=found.score, fitted_on=draw)
    assert calibrator.fitted_on.labels == 200
    assert ("silent" in calibrator.content) == (p_ok is not None)
    said = Calibrator.model_validate_json(calibrator.model_dump_json()).p_ok(pages(5, 2))
    assert np.isfinite(said[:5]).all()
    assert said[5:7].tolist() == pytest.approx([np.nan if p_ok is None else p_ok] * 2, nan_ok=True)
    assert np.isnan(said[7])  # it failed: nothing is known of it
