"""Whole nights of a job with heads: in those after a new head nothing is fetched, and rows are as from scratch."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.jobs.heads import drawn_head, head_task, job, photographs, said, selected, spec_of, spoil
from tests.jobs.whole_nights import NOW, Predicted, begin, night, predicted, rows, runs_of, work_through
from tests.workers.pipelines import save_image
from winnow_jobs.backfill import Backfill
from winnow_jobs.compact import compact
from winnow_jobs.draft import draft_run
from winnow_jobs.events import silent
from winnow_jobs.explain.record import Asked, explain
from winnow_jobs.explain.told import lines
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec, resolve_spec
from winnow_jobs.review import _vectors, vectors_task
from winnow_jobs.routes import iter_routes
from winnow_jobs.run import _worker_config, finish
from winnow_jobs.runs import PlanDocument
from winnow_jobs.spec_source import load_spec
from winnow_jobs.verify.run import verify_run
from winnow_jobs.views import plan_record
from winnow_storage.dataset import read_current
from winnow_storage.errors import ModelError
from winnow_storage.parts import WorkReader
from winnow_storage.shards import committed_shards, shard_key
from winnow_storage.uri import parse
from winnow_workers.children import rows_one_by_one
from winnow_workers.fetch import Fetcher
from winnow_workers.operator import Prediction, View
from winnow_workers.operators.embed import EmbedOperator
from winnow_workers.pipeline import Pipeline

__all__ = ["predicted"]  # a fixture


def let_nobody_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the bytes of an image, or opens the model that makes vectors, fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("an image was fetched")

    monkeypatch.setattr(Fetcher, "read", refuse)
    monkeypatch.setattr(EmbedOperator, "open", refuse)


def test_night__a_head_says_what_the_row_s_own_vector_gives(tmp_path: Path) -> None:
    photographs(tmp_path)
    resolved = job(tmp_path, head_task(tmp_path, 1))
    summary = night(resolved)
    assert (summary["state"], summary["predictions"], summary["from_vectors"]) == ("done", {"look": 10, "kind": 10}, 0)
    head = drawn_head(tmp_path, 1)
    for row in rows(resolved):
        scores = head.scores(np.array([row["look"]["vector"]], np.float16))[0]
        kind = row["kind"]
        assert kind["label"] == head.labels[scores.argmax()]
        assert kind["score"] == pytest.approx(scores.max(), abs=1e-6)
        assert [entry["score"] for entry in kind["top"]] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
        assert (kind["score_kind"], kind["p_ok"], kind["error"]) == ("softmax", None, None)
        assert kind["preproc"] == f"vectors-{head.embedding.task_digest[:12]}"
    assert verify_run(runs_of(resolved), "0001").findings == []


@pytest.mark.parametrize("compacted", [False, True], ids=["runs", "compaction"])
def test_night__a_new_head_needs_no_image(
    tmp_path: Path, predicted: Predicted, compacted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(tmp_path)
    night(job(tmp_path, head_task(tmp_path, 1)))
    night(scratch := job(tmp_path, head_task(tmp_path, 2), out="scratch"))
    resolved = job(tmp_path, head_task(tmp_path, 2))
    if compacted:
        compact(runs_of(resolved).store, silent, lambda: NOW)
    spoil(paths)
    predicted.since()
    with monkeypatch.context() as patched:
        let_nobody_fetch(patched)
        summary = night(resolved)
    assert (summary["state"], summary["from_vectors"], summary["bytes"]) == ("done", 10, 0)
    assert (summary["predictions"], predicted.since()) == ({"kind": 10}, 0)
    assert said(resolved, "0002") == said(scratch, "0001", "look")
    assert [row["kind"] for row in said(resolved, "0001")] != [row["kind"] for row in said(resolved, "0002")]
    plan = runs_of(resolved).plan("0002")
    assert (plan.vectors, plan.idle, plan.total_bytes) == (10, ("look",), 0)
    record = explain(runs_of(resolved), Asked("03.png", task="kind"), ledger=None, server=None)
    assert record["tasks"][0]["vector"] == {"task": "look", "run_id": "0001"}
    assert "  vector     of look, in the row of run 0001" in lines(record)
    check = verify_run(runs_of(resolved), "0002")
    assert (check.findings, check.notes) == ([], [])
    assert night(resolved) == {}  # nothing is due
    current = read_current(parse(resolved.output)).sort_by("key").to_pylist()
    assert [(row["look"]["run_id"], row["kind"]["run_id"]) for row in current] == [("0001", "0002")] * 10


def test_night__what_changed_is_embedded_and_decided_as_ever(tmp_path: Path, predicted: Predicted) -> None:
    paths = photographs(tmp_path)
    paths[8].write_bytes(b"no image")
    night(job(tmp_path, head_task(tmp_path, 1)))
    save_image(paths[3], seed=33, size=(50, 20))  # another version
    save_image(tmp_path / "corpus/11.png", seed=11)
    paths[5].unlink()
    resolved = job(tmp_path, head_task(tmp_path, 2))
    predicted.since()
    summary = night(resolved)
    assert (summary["from_vectors"], predicted.since()) == (7, 2)
    assert summary["outcomes"] == summary["outcomes"] | {"done": 9, "unreadable": 1}
    night(scratch := job(tmp_path, head_task(tmp_path, 2), out="scratch"))
    assert said(resolved, "0002", "look") == said(scratch, "0001", "look")
    embedded = [row["key"] for row in rows(resolved, "0002") if row["look"] is not None]
    assert embedded == ["03.png", "11.png"]
    assert runs_of(resolved).plan("0002").idle == ()
    assert verify_run(runs_of(resolved), "0002").findings == []
    assert summary["bytes"] == sum(paths[0].with_name(name).stat().st_size for name in ("03.png", "08.png", "11.png"))


def test_night__a_head_that_is_asked_for_alone_brings_its_vectors_along(tmp_path: Path, predicted: Predicted) -> None:
    photographs(tmp_path)
    resolved = job(tmp_path, head_task(tmp_path, 1), head_task(tmp_path, 2, name="mood"))
    summary = night(resolved, tasks=("kind",))
    assert summary["predictions"] == {"look": 10, "kind": 10}
    predicted.since()
    summary = night(resolved)
    assert (summary["predictions"], summary["from_vectors"], predicted.since()) == ({"mood": 10}, 10, 0)
    summary = night(resolved, **selected(resolved, Backfill.DECISIONS))  # all of it again, and still from vectors
    assert (summary["predictions"], summary["from_vectors"]) == ({"kind": 10, "mood": 10}, 10)
    assert said(resolved, "0003", "mood") == said(resolved, "0001", "look")
    summary = night(resolved, **selected(resolved, Backfill.ALL))  # from pixels
    assert (summary["predictions"], summary["from_vectors"]) == ({"look": 10, "kind": 10, "mood": 10}, 0)
    assert predicted.since() == 10


def test_night__another_embedding_makes_heads_due_and_refuses_those_of_the_one_before(tmp_path: Path) -> None:
    photographs(tmp_path, 3)
    head = head_task(tmp_path, 1)
    night(job(tmp_path, head))
    path = spec_of(tmp_path, head)
    path.write_text(path.read_text().replace("builtin/fingerprint}", "builtin/fingerprint, dtype: float32}"))
    changed = resolve_spec(load_spec(path, {}))
    assert changed.task("kind").digest != job(tmp_path, head, out="other").task("kind").digest
    with pytest.raises(ModelError, match="fitted on vectors of another embedding"):
        night(changed)


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedder fails on the images of 33 px width."""
    plain = EmbedOperator.run

    def run(self: EmbedOperator, views: list[View]) -> list[Prediction]:
        if any(view.width_px == 33 for view in views):
            raise ValueError("no")
        return plain(self, views)

    monkeypatch.setattr(EmbedOperator, "run", run)


def test_night__without_a_vector_the_head_fails_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = photographs(tmp_path, 5)
    save_image(paths[2], seed=2, size=(33, 30))
    with monkeypatch.context() as patched:
        failing(patched)
        resolved = job(tmp_path, head_task(tmp_path, 1))
        summary = night(resolved)
        assert (summary["state"], summary["errors"]) == ("partial", {"look": 1, "kind": 1})
        row = rows(resolved)[2]
        assert (row["outcome"], row["failed_tasks"]) == ("failed", ["look", "kind"])
        assert row["kind"]["error"] == "look made no vector: ValueError: no"
        assert row["kind"]["model"] == resolved.task("kind").model.digest
        assert verify_run(runs_of(resolved), "0001").findings == []
        # a new head is due for it: without a vector that stands the image is embedded again, and fails again
        newer = job(tmp_path, head_task(tmp_path, 2))
        assert (night(newer)["from_vectors"], rows(newer, "0002")[2]["outcome"]) == (4, "failed")
    newest = job(tmp_path, head_task(tmp_path, 3))
    assert (night(newest)["from_vectors"], rows(newest, "0003")[2]["outcome"]) == (4, "done")


def test_night__a_row_that_went_away_after_the_plan_makes_its_item_unavailable(tmp_path: Path) -> None:
    photographs(tmp_path)
    night(job(tmp_path, head_task(tmp_path, 1)))
    resolved = job(tmp_path, head_task(tmp_path, 2))
    runs = runs_of(resolved)
    plan = begin(resolved)
    assert plan is not None
    (tmp_path / "out" / shard_key("0001", 1)).unlink()
    summary = finish(runs, plan, work_through(runs, plan), 1.0)
    assert (summary["outcomes"]["done"], summary["outcomes"]["unavailable"], summary["from_vectors"]) == (6, 4, 6)
    lost = rows(resolved, "0002")[4]
    assert lost["reason"].startswith("the row of run 0001 that held its vector of look is not there any more")
    assert verify_run(runs, "0002").findings == []
    summary = night(resolved)
    assert (summary["items"], summary["predictions"]) == (4, {"look": 4, "kind": 4})
    night(scratch := job(tmp_path, head_task(tmp_path, 2), out="scratch"))
    kinds = {row["key"]: row["kind"] for run in ("0002", "0003") for row in rows(resolved, run) if row["kind"]}
    assert [kinds[row["key"]] for row in rows(scratch)] == [row["kind"] for row in rows(scratch)]


def test_night__copies_are_looked_for_only_among_what_is_fetched(tmp_path: Path, predicted: Predicted) -> None:
    paths = photographs(tmp_path, 4)
    for path in paths[:2]:
        path.with_name(f"{path.stem}-again.png").write_bytes(path.read_bytes())
    night(job(tmp_path, head_task(tmp_path, 1), same_content="once"))
    (tmp_path / "corpus/new.png").write_bytes(paths[0].read_bytes())
    save_image(tmp_path / "corpus/newer.png", seed=9)
    (tmp_path / "corpus/newer-again.png").write_bytes((tmp_path / "corpus/newer.png").read_bytes())
    resolved = job(tmp_path, head_task(tmp_path, 2), same_content="once")
    predicted.since()
    summary = night(resolved)
    assert (summary["from_vectors"], summary["copied"], predicted.since()) == (6, 1, 2)
    night(scratch := job(tmp_path, head_task(tmp_path, 2), out="scratch"))
    assert said(resolved, "0002", "look", "copied_from") == said(scratch, "0001", "look", "copied_from")
    assert verify_run(runs_of(resolved), "0002").findings == []


def test_night__a_person_is_asked_once_about_the_same_bytes(tmp_path: Path) -> None:
    paths = photographs(tmp_path, 4)
    for path in paths[:3]:
        path.with_name(f"{path.stem}-again.png").write_bytes(path.read_bytes())
    night(job(tmp_path, head_task(tmp_path, 1), same_content="once"))
    paths[2].unlink()  # what moved away is asked about where it is now
    review = "{policies: {kind: {min_p_ok: 0.5}}, budget: 6}"
    resolved = job(tmp_path, head_task(tmp_path, 2), same_content="once", review=review)
    summary = night(resolved)
    assert (summary["from_vectors"], summary["review"]["routes"]) == (6, {"kind": {"hold": 2, "review": 4}})
    assert sorted(row["key"] for row in reviewed_in(resolved, "0002")) == [
        "00-again.png", "01-again.png", "02-again.png", "03.png"
    ]  # fmt: skip
    assert verify_run(runs_of(resolved), "0002").findings == []


def test_night__a_run_that_was_cut_off_gives_the_same_rows(tmp_path: Path) -> None:
    photographs(tmp_path)
    night(job(tmp_path, head_task(tmp_path, 1)))
    resolved = job(tmp_path, head_task(tmp_path, 2))
    plan = begin(resolved)
    assert plan is not None
    for shards in ([2], [0]):  # each by another process
        work_through(runs_of(resolved), plan, shards=shards)
    assert begin(resolved) == plan
    assert finish(runs_of(resolved), plan, work_through(runs_of(resolved), plan), 1.0)["from_vectors"] == 10
    night(scratch := job(tmp_path, head_task(tmp_path, 2), out="scratch"))
    assert said(resolved, "0002") == said(scratch, "0001", "look")


def test_rows_one_by_one__children_take_vectors_as_well(tmp_path: Path) -> None:
    paths = photographs(tmp_path, 4)
    night(job(tmp_path, head_task(tmp_path, 1)))
    resolved = job(tmp_path, head_task(tmp_path, 2))
    plan = begin(resolved)
    assert plan is not None
    spoil(paths)
    work_through(runs_of(resolved), plan)
    pipeline = pipeline_of(plan)
    found = [row for batch in rows_one_by_one(pipeline.config, 0, pipeline.items(0)) for row in batch.to_pylist()]
    assert found == rows(resolved, "0002")


def pipeline_of(plan: PlanDocument) -> Pipeline:
    return Pipeline(_worker_config(plan, plan.spec, actors=1))


def test_work__of_before_there_were_heads_is_read(tmp_path: Path) -> None:
    """A run that an older version began: its work has no such column."""
    photographs(tmp_path, 3)
    resolved = job(tmp_path)
    plan = begin(resolved)
    assert plan is not None
    place = tmp_path / "out" / plan.work[0].key
    table = pq.read_table(place).drop_columns(["vectors"])
    pq.write_table(table, place, row_group_size=4, write_page_checksum=True)
    (part,) = plan.work
    older = plan.model_copy(
        update={"work": (type(part)(part.key, place.stat().st_size, part.rows, part.first_shard, part.shards),)}
    )
    work = WorkReader(runs_of(resolved).store, older.work).rows(0)
    assert work["vectors"].to_pylist() == [None] * 3
    assert work_through(runs_of(resolved), older).outcomes == {"done": 3}


def test_plan_record__says_that_nothing_is_fetched(tmp_path: Path) -> None:
    photographs(tmp_path)
    night(job(tmp_path, head_task(tmp_path, 1)))
    resolved = job(tmp_path, head_task(tmp_path, 2))
    runs = runs_of(resolved)
    draft = draft_run(runs, resolved, Selection(), now=datetime(2026, 11, 20, tzinfo=UTC))
    record = plan_record(draft, None, runs)
    assert (record["due_items"], record["from_vectors"], record["bytes"]) == (10, 10, 0)
    look, kind = record["tasks"]
    assert (look["due"], kind["due"], kind["from_vectors"], kind["vectors"]) == (0, 10, 10, "look")
    assert kind["why"] == "its model or parameters changed since the last run"


def test_night__on_s3_no_object_is_read(
    s3_bucket: str, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_bucket.removeprefix("s3://")
    for path in photographs(tmp_path):
        s3_client.put_object(Bucket=bucket, Key=f"photos/{path.name}", Body=path.read_bytes())
    places = {"corpus": f"{s3_bucket}/photos", "out": f"{s3_bucket}/out"}
    night(job(tmp_path, head_task(tmp_path, 1), **places))
    resolved = job(tmp_path, head_task(tmp_path, 2), **places)
    with monkeypatch.context() as patched:
        let_nobody_fetch(patched)
        summary = night(resolved)
    assert (summary["outcomes"]["done"], summary["from_vectors"], summary["bytes"]) == (10, 10, 0)
    night(scratch := job(tmp_path, head_task(tmp_path, 2), corpus=places["corpus"], out="scratch"))
    assert said(resolved, "0002") == said(scratch, "0001", "look")


def test_night__reviews_are_as_diverse_as_if_the_vectors_were_in_the_run(tmp_path: Path) -> None:
    photographs(tmp_path, 40)
    review = "{policies: {kind: {min_p_ok: 0.5}}, budget: 6}"
    night(job(tmp_path, head_task(tmp_path, 1)))  # asks nobody
    resolved = job(tmp_path, head_task(tmp_path, 2), review=review)
    night(resolved)
    night(scratch := job(tmp_path, head_task(tmp_path, 2), out="scratch", review=review))
    found, expected = vectors_of_run(resolved, "0002"), vectors_of_run(scratch, "0001")
    assert found.keys() == expected.keys()
    assert len(found) == 40
    assert all((found[item] == expected[item]).all() for item in found)
    assert vectors_of_run(resolved, "0001").keys() == found.keys()
    how = [{row["chosen"] for row in reviewed_in(one, run)} for one, run in ((resolved, "0002"), (scratch, "0001"))]
    assert [len(reviewed_in(one, run)) for one, run in ((resolved, "0002"), (scratch, "0001"))] == [6, 6]
    assert all(one is not None and "of a group of" in one for some in how for one in some), how

    # what the second run held competes again in the third, with the vectors that lay beside it there
    save_image(tmp_path / "corpus/more.png", seed=99)
    night(resolved)
    plan, held = runs_of(resolved).plan("0003"), committed_shards(runs_of(resolved).store, "0002")
    places = {plan.shards + shard: info for shard, info in held.items()}
    pool = {plan.shards + shard: items for shard, items in pool_of(resolved, "0002").items()}
    again = _vectors(runs_of(resolved).store, plan, places, pool, "look")
    assert again.keys() == found.keys()
    assert all((again[item] == found[item]).all() for item in found)


def vectors_of_run(resolved: ResolvedSpec, run_id: str) -> dict[str, Any]:
    """What the choice among a run's reviews may be given: of all its items."""
    store, plan = runs_of(resolved).store, runs_of(resolved).plan(run_id)
    shards = committed_shards(store, run_id)
    assert vectors_task(plan, resolved.review) == "look"
    return _vectors(store, plan, shards, pool_of(resolved, run_id), "look")


def pool_of(resolved: ResolvedSpec, run_id: str) -> dict[int, list[str]]:
    """The items of each shard."""
    found: dict[int, list[str]] = {}
    for row in rows(resolved, run_id):
        found.setdefault(row["shard"], []).append(row["item_id"])
    return found


def reviewed_in(resolved: ResolvedSpec, run_id: str) -> list[dict[str, Any]]:
    routes = [row for some in iter_routes(runs_of(resolved).store, run_id) for row in some.to_pylist()]
    return [row for row in routes if row["route"] == "review"]
