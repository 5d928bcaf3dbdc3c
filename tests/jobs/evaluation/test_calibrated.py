"""`winnow evaluate` measures the p_ok that routing gives, by a calibrator that it names; rows keep their own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.jobs.drawn_runs import answer
from tests.jobs.evaluation.test_rows import evaluated
from tests.jobs.every_task import COUNT, KINDS, TASK, Kind, commit_run, job, truth_file
from tests.jobs.test_compact_command import run_cli
from tests.jobs.test_learn import NOW, routes
from tests.jobs.test_learn_neighbours import add_seen, there, truths
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_jobs.learn import Learned, learn
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review import route_run
from winnow_jobs.runs import Runs

__all__ = ["there"]  # a fixture
REVIEW = ReviewSpec(policies={TASK: Policy(min_p_ok=0.8)}, calibrate=200, budget=200)
CLASSIFY = KINDS["classify"]


def spec_file(folder: Path, *tasks: tuple[str, str]) -> Path:
    named = ", ".join(f"{{name: {name}, operator: {operator}, model: m.onnx}}" for name, operator in tasks)
    file = folder / "job.yaml"
    file.write_text(f"name: shelves\ncorpus: corpus\noutput: out\ntasks: [{named}]\n")
    return file


def learned(resolved: ResolvedSpec, runs: Runs, truth: Path | None) -> str:
    found = learn(resolved, runs, tasks=(), truth=truth, at=NOW)[TASK]
    assert isinstance(found, Learned), found
    return found.calibrator.id


def answers(folder: Path, kind: Kind, truth: Mapping[str, Mapping[str, Any]]) -> Path:
    """The truth as `winnow evaluate` takes it; of boxes and masks COCO, in which a wrong one is another class."""
    file = folder / "truth.json"
    if kind.operator in ("detect", "segment"):
        images = [{"id": n, "file_name": key, "width": 10, "height": 10} for n, key in enumerate(truth)]
        objects = []
        for number, value in enumerate(truth.values()):
            one: dict[str, Any] = {"id": number, "image_id": number, "category_id": 1, "area": 81, "iscrowd": 0}
            if kind.operator == "detect" and value["boxes"]:
                objects.append(one | {"bbox": [0, 0, 9, 9]})
            if kind.operator == "segment":
                objects.append(one | {"bbox": [0, 0, 10, 10], "segmentation": value["masks"][0]["rle"]})
        categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
        file.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))
        return file
    names = {"full_text": "text", "is_anomalous": "anomalous"}
    file = folder / "truth.jsonl"
    rows = [{"key": key} | {names.get(name, name): one for name, one in of.items()} for key, of in truth.items()]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_evaluate__ranks_by_the_p_ok_of_the_routes(
    kind: Kind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved, runs = job(tmp_path, kind, REVIEW)
    _, truth = commit_run(runs, resolved, kind, 1)
    one = learned(resolved, runs, truth_file(tmp_path / "t.parquet", truth))
    second, more = commit_run(runs, resolved, kind, 2)
    asking = [spec_file(tmp_path, (TASK, kind.operator)), "--truth", answers(tmp_path, kind, more)]
    items = tmp_path / "items.parquet"
    route_run(runs.store, second)
    routed = {row["key"]: row["p_ok"] for row in routes(runs, second)}
    for options, which in ((["--run", "0002"], "pinned by run 0002"), ([], "the newest")):
        code, record = evaluated(capsys, *asking, *options, "--per-item", items)
        assert code == 0, record
        assert (code, record["n"], record["confidence"]) == (0, COUNT, "p_ok"), record
        assert (record["calibrator"]["id"], record["calibrator"]["which"]) == (one, which)
        measured = {row["key"]: row["confidence"] for row in pq.read_table(items).to_pylist()}
        assert measured == pytest.approx(routed)
        assert record["measures"]["ece"] < 0.12
        assert record["notes"] == []


def test_evaluate__a_run_by_what_it_pinned_and_current_by_the_newest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved, runs = job(tmp_path, CLASSIFY, REVIEW)
    first, truth = commit_run(runs, resolved, CLASSIFY, 1)
    route_run(runs.store, first)
    asking = [spec_file(tmp_path, (TASK, "classify")), "--truth", answers(tmp_path, CLASSIFY, truth)]
    _, record = evaluated(capsys, *asking, "--run", "0001")
    assert (record["calibrator"], record["confidence"]) == (None, "score")
    before = learned(resolved, runs, truth_file(tmp_path / "t.parquet", truth))
    stands = sorted(info.key for info in runs.store.walk(""))
    _, record = evaluated(capsys, *asking, "--run", "0001")
    assert record["calibrator"]["id"] == before
    assert record["calibrator"]["which"] == "the newest; run 0001 has pinned none"
    assert sorted(info.key for info in runs.store.walk("")) == stands  # nothing is pinned by measuring
    page = tmp_path / "page.html"
    _, out, _ = run_cli(capsys, "evaluate", *asking, "--run", "0001", "--html", page)
    said = f"confidence is p_ok by {before} (the newest; run 0001 has pinned none)"
    assert said in out
    assert said in page.read_text()

    second, more = commit_run(runs, resolved, CLASSIFY, 2)
    route_run(runs.store, second)
    answer(runs, "0001", truth, ["calibrate"])
    after = learned(resolved, runs, None)
    assert after != before
    asking[2] = answers(tmp_path, CLASSIFY, more)
    found = [evaluated(capsys, *asking, *run)[1]["calibrator"] for run in (["--run", "0002"], [])]
    assert [(one["id"], one["which"]) for one in found] == [(before, "pinned by run 0002"), (after, "the newest")]
    assert run_cli(capsys, "compact", asking[0])[0] == 0
    compacted = evaluated(capsys, *asking, "--compaction")[1]
    assert compacted["calibrator"] == found[1]
    assert compacted["measures"] == evaluated(capsys, *asking)[1]["measures"]
    for purpose, tells in (([], True), (["--purpose", "calibrate"], True), (["--purpose", "review"], False)):
        code, record = evaluated(capsys, asking[0], "--truth", "labels", "--run", "0001", *purpose)
        assert (code == 0) is tells  # nobody has answered what was sent for review
        said = "was learned from answers of purpose calibrate, which may be among these"
        assert any(said in note for note in record.get("notes", ())) is tells


def test_evaluate__of_current_what_another_model_said_keeps_its_p_ok(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved, runs = job(tmp_path, CLASSIFY, REVIEW)
    _, truth = commit_run(runs, resolved, CLASSIFY, 1)
    learned(resolved, runs, truth_file(tmp_path / "t.parquet", truth))
    (task,) = resolved.tasks
    newer = resolved.model_copy(update={"tasks": (task.model_copy(update={"revision": 2}),)})
    keys = sorted(truth)
    _, again = commit_run(runs, newer, CLASSIFY, 1, count=150)
    after = learned(newer, runs, truth_file(tmp_path / "t.parquet", again))
    items = tmp_path / "items.parquet"
    asking = [spec_file(tmp_path, (TASK, "classify")), "--truth", answers(tmp_path, CLASSIFY, truth)]
    _, record = evaluated(capsys, *asking, "--per-item", items)
    assert (record["calibrator"]["id"], record["n"], record["without_confidence"]) == (after, COUNT, 150)
    assert {row["key"] for row in pq.read_table(items).to_pylist() if np.isfinite(row["confidence"])} == {*keys[:150]}


def test_evaluate__by_a_calibrator_that_heeds_neighbours(
    there: tuple[ResolvedSpec, Runs, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved, runs, truth = there
    learn(resolved, runs, tasks=(), truth=truth, at=NOW, neighbours="look")
    plan = add_seen(runs, resolved, 2)
    route_run(runs.store, plan)
    routed = {row["key"]: row["p_ok"] for row in routes(runs, plan) if row["task"] == "kind"}
    routed["00000.jpg"] = float("nan")  # it has no vector
    file, items = tmp_path / "truth.csv", tmp_path / "items.parquet"
    file.write_text("key,label\n" + "".join(f"{n:05d}.jpg,{label}\n" for n, label in enumerate(truths(2)[0])))
    job_file = spec_file(tmp_path, ("kind", "classify"), ("look", "embed"))
    asking = [job_file, "--task", "kind", "--truth", file, "--per-item", items]
    _, record = evaluated(capsys, *asking, "--run", "0002")
    measured = {row["key"]: row["confidence"] for row in pq.read_table(items).to_pylist()}
    assert measured == pytest.approx(routed, nan_ok=True)
    assert record["measures"]["errors_found_by_reviewing_10_percent"] > 0.4  # of a fifth that is wrong
    alone = resolved.model_copy(update={"tasks": resolved.tasks[:1]})
    add_seen(runs, alone, 3)
    _, record = evaluated(capsys, *asking, "--run", "0003")
    assert (record["calibrator"], record["confidence"]) == (None, "score")
