"""What a new run would do: its numbers, its parts, and that they are the same however it is listed."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.histories import Row, add_run, make_corpus, output_runs, spec
from winnow_jobs.draft import Draft, draft_run
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.spec import ExecutionSpec
from winnow_jobs.views import plan_record
from winnow_storage import parts
from winnow_storage.errors import UsageError
from winnow_storage.parts import WorkReader
from winnow_storage.schemas import SNAPSHOT, WORK

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def drafted(folder: Path, resolved: ResolvedSpec, name: str = "parts", **selected: object) -> Draft:
    (folder / name).mkdir()
    selection = Selection.model_validate(selected)
    return draft_run(output_runs(folder), resolved, selection, now=NOW, folder=folder / name)


def test_draft_run__parts_hold_the_snapshot_and_whole_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 25)
    keys = make_corpus(tmp_path, 103)
    draft = drafted(tmp_path, spec(tmp_path, run=ExecutionSpec(shard_items=10)))
    plan, files = draft.plan, dict(draft.files)
    assert (plan.corpus_items, plan.items, plan.shards, plan.shard_items) == (103, 103, 11, 10)
    assert (plan.other_files, draft.other_examples, plan.total_bytes) == (1, ("notes.txt",), 103 * 7)
    assert draft.due == {"kind": 103}
    assert list(files) == [part.key for part in (*plan.snapshot, *plan.work)]
    for part in (*plan.snapshot, *plan.work):
        assert (pq.read_metadata(files[part.key]).num_rows, files[part.key].stat().st_size) == (part.rows, part.bytes)
    assert [(part.rows, part.first_shard, part.shards) for part in plan.work] == [
        (20, 0, 2), (20, 2, 2), (20, 4, 2), (20, 6, 2), (20, 8, 2), (3, 10, 1),
    ]  # fmt: skip
    snapshot = pa.concat_tables([pq.read_table(files[part.key]) for part in plan.snapshot])
    assert (snapshot.schema, snapshot["key"].to_pylist()) == (SNAPSHOT, keys)
    runs = output_runs(tmp_path)
    assert runs.begin(plan, draft.files)
    work = WorkReader(runs.store, plan.work)
    shards = [work.rows(shard) for shard in (*range(11), 0, 10)][:11]
    assert pa.concat_tables(shards).schema == WORK
    assert [key for rows in shards for key in rows["key"].to_pylist()] == keys
    assert [set(rows["shard"].to_pylist()) for rows in shards] == [{shard} for shard in range(11)]
    assert runs.plan("0001") == plan


def test_draft_run__twice_gives_the_same_parts(tmp_path: Path) -> None:
    make_corpus(tmp_path, 40)
    first, second = (drafted(tmp_path, spec(tmp_path), name) for name in ("first", "second"))
    assert first.plan == second.plan
    assert [path.read_bytes() for _, path in first.files] == [path.read_bytes() for _, path in second.files]


def test_draft_run__without_a_folder_counts_the_same_and_writes_nothing(tmp_path: Path) -> None:
    make_corpus(tmp_path, 40)
    resolved = spec(tmp_path)
    for selection in (Selection(), Selection(limit=7), Selection(sample=9), Selection(sample=9, limit=2)):
        counted = draft_run(output_runs(tmp_path), resolved, selection, now=NOW)
        written = drafted(tmp_path, resolved, f"{selection.limit}-{selection.sample}", **selection.model_dump())
        assert counted.plan == written.plan.model_copy(update={"snapshot": (), "work": ()})
        assert (counted.files, counted.due) == ((), written.due)
        record = plan_record(counted, None, output_runs(tmp_path))
        assert record == plan_record(written, None, output_runs(tmp_path))
        assert record["tasks"][0]["due"] == record["due_items"] == counted.plan.items
    assert not (tmp_path / "out").exists()


def test_draft_run__a_sample_of_the_due_is_cut_in_the_order_of_the_listing(tmp_path: Path) -> None:
    make_corpus(tmp_path, 100)
    draft = drafted(tmp_path, spec(tmp_path), sample=40)
    files = dict(draft.files)
    (work,) = (pq.read_table(files[part.key]) for part in draft.plan.work)
    assert work["key"].to_pylist() == sorted(work["key"].to_pylist())
    assert work["shard"].to_pylist() == [number // 16 for number in range(40)]
    assert draft.plan.corpus_items == 100


def test_draft_run__says_what_the_selection_names_wrongly(tmp_path: Path) -> None:
    make_corpus(tmp_path, 1)
    runs, resolved = output_runs(tmp_path), spec(tmp_path)
    for selection, message in (
        (Selection(tasks=("kinds",)), "--tasks names 'kinds'"),
        (Selection(since="0001"), r"no run of shelves began then or later \(none yet\)"),
    ):
        with pytest.raises(UsageError, match=message):
            draft_run(runs, resolved, selection, now=NOW)
    add_run(runs, resolved, [[Row("a.jpg")]])
    with pytest.raises(UsageError, match=r"--since 0002: .*the newest is 0001 of 2026-11-02 20:00 UTC"):
        draft_run(runs, resolved, Selection(since="0002"), now=NOW)
    with pytest.raises(UsageError, match="holds runs of the job 'shelves', not of 'other'"):
        draft_run(runs, spec(tmp_path, job="other"), Selection(), now=NOW)
