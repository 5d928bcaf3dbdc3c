"""A calibrator of a detector: learned from COCO truth or a table, applied while routing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.histories import add_run, receipt, spec
from tests.jobs.test_learn import NOW, routes
from winnow_jobs.learn import Learned, learn
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.review import route_run
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.ids import item_id
from winnow_storage.schemas import BOX_XYXY_PX, result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.models.resolve import resolve_model

COUNT = 300
BOX = pa.struct([("label", pa.string()), ("box", BOX_XYXY_PX), ("score", pa.float32()), ("is_output", pa.bool_())])
FIELDS = [pa.field("boxes", pa.list_(BOX)), pa.field("cut", pa.int32())]


def add_boxes(runs: Runs, resolved: ResolvedSpec, seed: int) -> PlanDocument:
    """A run of images with one box each; what is under 0.5 is held back."""
    plan = add_run(runs, resolved, [None])
    rows = []
    for number, score in enumerate(np.random.default_rng(seed).uniform(0.1, 1, COUNT)):
        key = f"{number:05d}.jpg"
        box = {"label": "a", "box": [0.0, 0.0, 9.0, 9.0], "score": score, "is_output": score >= 0.5}
        struct = {"model": "m", "score": max(score, 1 - score), "boxes": [box], "cut": 0}
        common = {"item_id": item_id("c", key), "key": key, "uri": f"file:///{key}", "version": "v1", "outcome": "done"}
        rows.append(common | {"failed_tasks": [], "run_id": plan.run_id, "shard": 0, "things": struct})
    table = pa.Table.from_pylist(rows, schema=result_schema({"things": FIELDS}))
    assert runs.store.put_if_absent(shard_key(plan.run_id, 0), encode_shard(table, receipt(plan, 0, ())))
    return plan


@pytest.fixture
def there(tmp_path: Path) -> tuple[ResolvedSpec, Runs, dict[str, bool]]:
    """300 images whose box is right with its score, and which are."""
    model = resolve_model("builtin/fingerprint")
    resolved = spec(tmp_path, ResolvedTask(name="things", operator="detect", revision=1, params={}, model=model))
    runs = Runs(open_store(parse(resolved.output)))
    add_boxes(runs, resolved, 1)
    scores, rng = np.random.default_rng(1).uniform(0.1, 1, COUNT), np.random.default_rng(2)
    return resolved, runs, {f"{i:05d}.jpg": bool(rng.uniform() < scores[i]) for i in range(COUNT)}


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "key,boxes\n00001.jpg,[oops\n", "key 00001.jpg: its boxes are no JSON"),
        ("t.json", "{}", "t.json"),
    ],
)
def test_learn__truth_of_boxes_that_cannot_be_read(
    there: tuple[ResolvedSpec, Runs, Any], tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        learn(there[0], there[1], tasks=(), truth=tmp_path / name, at=NOW)
