"""A calibrator of a detector: learned from COCO truth or a table, applied while routing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.drawn_runs import answer
from tests.jobs.evaluation.test_rows import evaluated
from tests.jobs.histories import add_run, receipt, spec
from tests.jobs.test_learn import NOW, routes
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_jobs.audit import audit_records
from winnow_jobs.draws import all_labels, answered_draws, missed_positive
from winnow_jobs.learn import Learned, learn
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.review import route_run
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.ids import item_id
from winnow_storage.schemas import BOX_XYXY_PX, Route, result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.models.resolve import resolve_model

COUNT = 300
BOX = pa.struct([("label", pa.string()), ("box", BOX_XYXY_PX), ("score", pa.float32()), ("is_output", pa.bool_())])
FIELDS = [pa.field("boxes", pa.list_(BOX)), pa.field("cut", pa.int32())]


def add_boxes(runs: Runs, resolved: ResolvedSpec, seed: int, *, threshold: float = 0.5) -> PlanDocument:
    """A run of images with one box each; what is under `threshold` is held back."""
    plan = add_run(runs, resolved, [None])
    rows = []
    for number, score in enumerate(np.random.default_rng(seed).uniform(0.1, 1, COUNT)):
        key = f"{number:05d}.jpg"
        box = {"label": "a", "box": [0.0, 0.0, 9.0, 9.0], "score": score, "is_output": score >= threshold}
        struct = {"model": "m", "score": max(score, 1 - score), "boxes": [box], "cut": 0}
        common = {"item_id": item_id("c", key), "key": key, "uri": f"file:///{key}", "version": "v1", "outcome": "done"}
        rows.append(common | {"failed_tasks": [], "run_id": plan.run_id, "shard": 0, "things": struct})
    table = pa.Table.from_pylist(rows, schema=result_schema({"things": FIELDS}))
    assert runs.store.put_if_absent(shard_key(plan.run_id, 0), encode_shard(table, receipt(plan, 0, ())))
    return plan


def job(folder: Path) -> tuple[ResolvedSpec, Runs]:
    model = resolve_model("builtin/fingerprint")
    resolved = spec(folder, ResolvedTask(name="things", operator="detect", revision=1, params={}, model=model))
    return resolved, Runs(open_store(parse(resolved.output)))


def scores_and_truth() -> tuple[dict[str, float], dict[str, bool]]:
    """Of the images of seed 1: how their box scores, and whether it is right, which it is with its score."""
    scores, rng = np.random.default_rng(1).uniform(0.1, 1, COUNT), np.random.default_rng(2)
    keys = [f"{number:05d}.jpg" for number in range(COUNT)]
    return dict(zip(keys, scores.tolist(), strict=True)), {
        key: bool(rng.uniform() < score) for key, score in zip(keys, scores, strict=True)
    }


@pytest.fixture
def there(tmp_path: Path) -> tuple[ResolvedSpec, Runs, dict[str, bool]]:
    """300 images whose box is right with its score, and which are."""
    resolved, runs = job(tmp_path)
    add_boxes(runs, resolved, 1)
    return resolved, runs, scores_and_truth()[1]


def coco(path: Path, right: dict[str, bool]) -> Path:
    images = [{"id": number, "file_name": key, "width": 20, "height": 20} for number, key in enumerate(right)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
             for n, is_there in enumerate(right.values()) if is_there]  # fmt: skip
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    path.write_text(json.dumps(content))
    return path


def test_learn__coco_and_a_table_teach_the_same(
    there: tuple[ResolvedSpec, Runs, dict[str, bool]], tmp_path: Path
) -> None:
    resolved, runs, right = there
    found = learn(resolved, runs, tasks=(), truth=coco(tmp_path / "t.json", right), at=NOW)["things"]
    assert isinstance(found, Learned)
    assert found.calibrator.parts is not None
    assert found.calibrator.parts.parts == COUNT
    assert found.calibrator.parts.right == sum(right.values())
    here = [{"label": "a", "box": [0, 0, 9, 9]}]
    rows = [{"key": key, "boxes": json.dumps(here if is_there else [])} for key, is_there in right.items()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    same = learn(resolved, runs, tasks=(), truth=tmp_path / "t.parquet", at=NOW)["things"]
    assert isinstance(same, Learned)
    assert not same.is_new
    assert same.calibrator == found.calibrator


def test_route_run__reads_of_the_boxes_what_the_calibrator_needs(
    there: tuple[ResolvedSpec, Runs, dict[str, bool]], tmp_path: Path
) -> None:
    resolved, runs, right = there
    learn(resolved, runs, tasks=(), truth=coco(tmp_path / "t.json", right), at=NOW)
    plan = add_boxes(runs, resolved, 3)
    assert not route_run(runs.store, plan)["drift"][0]["drifted"]
    scores = np.random.default_rng(3).uniform(0.1, 1, COUNT)
    p_ok = {row["key"]: row["p_ok"] for row in routes(runs, plan)}
    wanted = np.where(scores >= 0.5, scores, 1 - scores)
    assert np.abs(np.array([p_ok[key] for key in sorted(p_ok)]) - wanted).mean() < 0.08


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_learn_and_evaluate__call_the_same_images_ok(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], threshold: float
) -> None:
    """A box of 0.4 is a claim where the task's threshold is 0.3, and one of 0.6 is none where that is 0.8."""
    resolved, runs = job(tmp_path)
    add_boxes(runs, resolved, 1, threshold=threshold)
    scores, right = scores_and_truth()
    ok = {key: (scores[key] >= threshold) == right[key] for key in right}
    truth = coco(tmp_path / "t.json", right)
    found = learn(resolved, runs, tasks=(), truth=truth, at=NOW)["things"]
    assert isinstance(found, Learned)
    assert found.calibrator.fitted_on.right == sum(ok.values())
    (tmp_path / "job.yaml").write_text(
        "name: shelves\ncorpus: corpus\noutput: out\n"
        f"tasks: [{{name: things, operator: detect, model: m.onnx, threshold: {threshold}}}]\n"
    )
    items = tmp_path / "items.parquet"
    command = [tmp_path / "job.yaml", "--truth", truth, "--run", "0001", "--per-item", items]
    for options, wanted in (
        ([], ok),
        (["--box-threshold", "0.5"], {key: (scores[key] >= 0.5) == right[key] for key in right}),
    ):
        code, record = evaluated(capsys, *command, *options)
        assert code == 0, record
        assert {row["key"]: row["ok"] for row in pq.read_table(items).to_pylist()} == wanted
        told = [note for note in record["notes"] if "judged with box_threshold 0.5, not what the task puts out" in note]
        assert bool(told) is bool(options)
        assert record["acceptance"]["box_threshold"] == (0.5 if options else None)


@pytest.mark.parametrize("threshold", [0.3, 0.8])
@pytest.mark.parametrize("purpose", [Route.CALIBRATE, Route.AUDIT])
def test_draws__of_boxes_are_right_by_what_is_put_out(tmp_path: Path, threshold: float, purpose: Route) -> None:
    resolved, runs = job(tmp_path)
    drawn = {"calibrate": COUNT} if purpose == Route.CALIBRATE else {"audit": 1.0}
    review = ReviewSpec(policies={"things": Policy(uncalibrated="accept")}, budget=COUNT, **drawn)
    resolved = resolved.model_copy(update={"review": review})
    route_run(runs.store, add_boxes(runs, resolved, 1, threshold=threshold))
    scores, right = scores_and_truth()
    box = {"label": "a", "box": [0.0, 0.0, 9.0, 9.0]}
    said = {key: {"boxes": [box] if is_there else []} for key, is_there in right.items()}
    assert answer(runs, "0001", said, [purpose], operator="detect") == COUNT
    task, labels = resolved.task("things"), all_labels(runs.store)
    draws = answered_draws(runs.store, runs.plans(), task, labels, purpose, Acceptance()).draws
    ok = {key: (scores[key] >= threshold) == right[key] for key in right}
    missed = {key: right[key] and scores[key] < threshold for key in right}
    assert {one.key: one.ok for one in draws} == ok
    assert {one.key: one.loss for one in draws} == {key: float(not is_ok) for key, is_ok in ok.items()}
    assert {one.key: missed_positive("detect", one, ()) for one in draws} == missed
    if purpose == Route.AUDIT:
        (audited,) = audit_records(resolved, runs)
        assert audited["all"]["wrong"] == COUNT - sum(ok.values())
        assert audited["all"]["missed_positives"] == sum(missed.values())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "key,boxes\n00001.jpg,[oops\n", "t.csv:2: key 00001.jpg: its boxes are no JSON"),
        ("t.csv", "key,boxes\n00001.jpg,[]\n00001.jpg,[]\n", "t.csv:3: 00001.jpg stands on line 2 already"),
        ("t.json", "{}", "t.json"),
    ],
)
def test_learn__truth_of_boxes_that_cannot_be_read(
    there: tuple[ResolvedSpec, Runs, Any], tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    found = learn(there[0], there[1], tasks=(), truth=tmp_path / name, at=NOW)["things"]
    assert isinstance(found, UsageError)
    assert message in found.message
