"""From which IoU on are masks right? The task's policy says it once: for calibrators, routes and `winnow evaluate`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.jobs.histories import add_run, receipt, spec
from tests.jobs.test_learn import NOW, routes
from winnow_annotation.policies import Policy, ReviewSpec, check_policy
from winnow_jobs.calibrators import newest_calibrator
from winnow_jobs.cli import main
from winnow_jobs.learn import Learned, learn
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.review import route_run
from winnow_jobs.runs import Runs
from winnow_storage.blobs import open_store
from winnow_storage.errors import SpecError, UsageError
from winnow_storage.ids import item_id
from winnow_storage.schemas import result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.confidence.calibrator import Calibrator
from winnow_workers.masks import encode_rle
from winnow_workers.models.resolve import resolve_model

COUNT = 300
LOW, HIGH = 0.5, 0.8
RLE = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
MASK = pa.struct(
    [
        ("label", pa.string()),
        ("area_px", pa.int64()),
        ("score", pa.float32()),
        ("rle", RLE),
        ("is_output", pa.bool_()),
    ]
)
FIELDS = [pa.field("masks", pa.list_(MASK)), pa.field("boundary_entropy", pa.float32())]


def rle(rows: int) -> dict[str, Any]:
    """The first rows of 10 x 10 px."""
    bits = np.zeros((10, 10), np.bool_)
    bits[:rows] = True
    return encode_rle(bits)


def overlaps() -> np.ndarray:
    """How many of ten true rows each of the masks covers: its IoU, in tenths."""
    return np.random.default_rng(1).integers(1, 11, COUNT)


def asking(resolved: ResolvedSpec, mask_iou: float | None) -> ResolvedSpec:
    """The spec whose policy asks for this IoU."""
    policy = Policy(min_p_ok=0.5, mask_iou=mask_iou)
    return resolved.model_copy(update={"review": ReviewSpec(policies={"parts": policy}, budget=1000)})


def add_masks(runs: Runs, resolved: ResolvedSpec, *, is_put_out: bool = True) -> str:
    """A run of images with one mask each, whose score is about its IoU."""
    plan = add_run(runs, resolved, [None])
    rng, rows = np.random.default_rng(2), []
    for number, covered in enumerate(overlaps()):
        key = f"{number:05d}.jpg"
        score = float(np.clip(covered / 10 + rng.normal() * 0.1, 0.01, 0.99))
        area = 10 * int(covered)
        mask = {"label": "a", "area_px": area, "score": score, "rle": rle(int(covered))}
        mask["is_output"] = is_put_out
        struct = {"model": "m", "score": score, "masks": [mask], "boundary_entropy": 0.1}
        common = {"item_id": item_id("c", key), "key": key, "uri": f"file:///{key}", "version": "v1", "outcome": "done"}
        rows.append(common | {"failed_tasks": [], "run_id": plan.run_id, "shard": 0, "parts": struct})
    table = pa.Table.from_pylist(rows, schema=result_schema({"parts": FIELDS}))
    assert runs.store.put_if_absent(shard_key(plan.run_id, 0), encode_shard(table, receipt(plan, 0, ())))
    return plan.run_id


@pytest.fixture
def there(tmp_path: Path) -> tuple[ResolvedSpec, Runs, Path]:
    return made(tmp_path)


def made(tmp_path: Path, *, is_put_out: bool = True) -> tuple[ResolvedSpec, Runs, Path]:
    """A run of masks, and the truth: ten rows of every image."""
    model = resolve_model("builtin/fingerprint")
    resolved = spec(tmp_path, ResolvedTask(name="parts", operator="segment", revision=1, params={}, model=model))
    runs = Runs(open_store(parse(resolved.output)))
    add_masks(runs, asking(resolved, None), is_put_out=is_put_out)
    truth = tmp_path / "truth.csv"
    cell = json.dumps({"a": rle(10)}).replace('"', '""')
    truth.write_text("key,masks\n" + "".join(f'{number:05d}.jpg,"{cell}"\n' for number in range(COUNT)))
    return resolved, runs, truth


def learned(resolved: ResolvedSpec, runs: Runs, truth: Path) -> Calibrator:
    one = learn(resolved, runs, tasks=(), truth=truth, at=NOW)["parts"]
    assert isinstance(one, Learned), one
    return one.calibrator


def test_learn__p_ok_is_of_the_iou_that_the_policy_asks_for(there: tuple[ResolvedSpec, Runs, Path]) -> None:
    resolved, runs, truth = there
    low, high = (learned(asking(resolved, asked), runs, truth) for asked in (None, HIGH))
    assert (low.subject.mask_iou, high.subject.mask_iou) == (LOW, HIGH)
    assert low.fitted_on.right == (overlaps() >= 5).sum()
    assert high.fitted_on.right == (overlaps() >= 8).sum()
    assert high.parts is not None
    assert high.parts.right == high.fitted_on.right
    task = resolved.task("parts")
    for asked, wanted in ((None, low), (LOW, low), (HIGH, high), (0.6, None)):
        assert newest_calibrator(runs.store, task, Policy(mask_iou=asked)) == wanted


def test_route_run__a_calibrator_of_another_iou_gives_no_p_ok(there: tuple[ResolvedSpec, Runs, Path]) -> None:
    resolved, runs, truth = there
    high = learned(asking(resolved, HIGH), runs, truth)
    for asked, wanted in ((HIGH, {high.id}), (LOW, {None})):
        run = add_masks(runs, asking(resolved, asked))
        route_run(runs.store, runs.plan(run))
        assert {row["calibrator"] for row in routes(runs, runs.plan(run))} == wanted


def test_evaluate__judges_as_the_policy_and_says_where_it_does_not(
    there: tuple[ResolvedSpec, Runs, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "truth.json"
    masks.write_text(coco())
    for options, asked, tells in (((), HIGH, False), (("--mask-iou", "0.5"), LOW, True)):
        record = evaluated(tmp_path, masks, capsys, *options)
        assert record["acceptance"]["mask_iou"] == asked
        assert record["measures"]["ok_share"] == pytest.approx((overlaps() >= 10 * asked).mean())
        said = [note for note in record["notes"] if "judged with mask_iou 0.5, not 0.8" in note]
        assert bool(said) is tells


def test_learn__crowds_count_neither_way_as_evaluate_has_it(
    there: tuple[ResolvedSpec, Runs, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved, runs, _ = there
    masks = tmp_path / "truth.json"
    masks.write_text(coco(rows=5, with_crowd=True))
    ok = overlaps() >= 4  # of five true rows, at 0.8; what lies below them, in the crowd, is no error
    found = learned(asking(resolved, HIGH), runs, masks)
    assert found.fitted_on.right == ok.sum()
    assert found.parts is not None
    assert found.parts.right == ok.sum()
    assert evaluated(tmp_path, masks, capsys)["measures"]["ok_share"] == pytest.approx(ok.mean())


@pytest.mark.parametrize("is_put_out", [True, False])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_learn__a_truth_whose_masks_are_of_another_size_is_refused(tmp_path: Path, form: str, is_put_out: bool) -> None:
    resolved, runs, truth = made(tmp_path, is_put_out=is_put_out)
    larger = encode_rle(np.ones((20, 10), np.bool_))
    if form == "csv":
        cell = json.dumps({"a": larger}).replace('"', '""')
        truth.write_text(f'key,masks\n00003.jpg,"{cell}"\n')
    else:
        truth = tmp_path / "truth.json"
        image = {"id": 1, "file_name": "00003.jpg", "width": 10, "height": 20}
        square = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": larger, "bbox": [0, 0, 10, 20]}
        objects = [square | {"area": 200, "iscrowd": 0}]
        truth.write_text(
            json.dumps({"images": [image], "annotations": objects, "categories": [{"id": 1, "name": "a"}]})
        )
    error = learn(resolved, runs, tasks=(), truth=truth, at=NOW)["parts"]
    assert isinstance(error, UsageError)
    sizes = "masks of different sizes (height x width): 10 x 10, 20 x 10"
    assert error.message == f"{truth}: key 00003.jpg: {sizes}"
    assert "the upright image's size" in (error.hint or "")


def evaluated(folder: Path, truth: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    """The record of run 0001, by a policy that asks for HIGH."""
    job = folder / "job.yaml"
    job.write_text(
        "name: shelves\ncorpus: {uri: corpus}\noutput: {uri: out}\n"
        "tasks: [{name: parts, operator: segment, model: builtin/small_unet, weights: {random: 0}}]\n"
        f"review: {{policies: {{parts: {{min_p_ok: 0.5, mask_iou: {HIGH}}}}}}}\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(job), "--truth", str(truth), "--run", "0001", "--json", *options])
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0, record
    return record


def coco(rows: int = 10, *, with_crowd: bool = False) -> str:
    """The first rows of every image as COCO has them, perhaps with a crowd in all others."""
    images = [{"id": n, "file_name": f"{n:05d}.jpg", "width": 10, "height": 10} for n in range(COUNT)]
    square = {"category_id": 1, "segmentation": rle(rows), "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}
    crowd = square | {"segmentation": encode_rle(np.arange(100).reshape(10, 10) >= 10 * rows), "iscrowd": 1}
    each = [square, crowd] if with_crowd else [square]
    objects = [one | {"id": len(each) * n + at, "image_id": n} for n in range(COUNT) for at, one in enumerate(each)]
    return json.dumps({"images": images, "annotations": objects, "categories": [{"id": 1, "name": "a"}]})


def test_check_policy__only_segment_has_masks() -> None:
    check_policy("segment", Policy(mask_iou=HIGH))
    with pytest.raises(SpecError, match="predictions of detect have no masks"):
        check_policy("detect", Policy(mask_iou=HIGH))
