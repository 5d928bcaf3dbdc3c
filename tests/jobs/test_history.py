"""What is due, from real shard objects read along with a listing; checked against a rule over dictionaries."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jobs.drawn_histories import KEYS, rows_of, selections
from tests.jobs.histories import CORPUS, DAY_0, Row, add_run, commit, listed, spec, task
from winnow_jobs.draft import due_items
from winnow_jobs.history import History
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import open_store
from winnow_storage.errors import StoreError
from winnow_storage.schemas import Outcome
from winnow_storage.uri import parse

Due = dict[str, list[str]]  # key -> tasks


def runs_in(folder: Path) -> Runs:
    return Runs(open_store(parse(str(folder / "out"))))


def due(runs: Runs, windows: Sequence[pa.RecordBatch], tasks: Sequence[ResolvedTask], **selected: object) -> Due:
    selection = Selection.model_validate(selected)
    with History(runs.store, runs.plans(), corpus_id=CORPUS, tasks=tasks) as history:
        batches = list(due_items(windows, history, tasks, selection))
    keys = [key for batch in batches for key in batch.column("key").to_pylist()]
    names = [names for batch in batches for names in batch.column("tasks").to_pylist()]
    assert keys == sorted(keys, key=lambda key: key.encode())
    return dict(zip(keys, names, strict=True))


def test_due_items__every_outcome_but_unavailable_is_final_until_it_is_asked_for_again(tmp_path: Path) -> None:
    runs, tasks = runs_in(tmp_path), [task("kind")]
    rows = [Row(str(outcome), outcome=outcome, tasks={}) for outcome in Outcome if outcome not in ("done", "failed")]
    rows += [Row("done"), Row("failed", outcome=Outcome.FAILED, tasks={"kind": False})]
    add_run(runs, spec(tmp_path), [sorted(rows, key=lambda row: row.key)])
    windows = listed({str(outcome): "v1" for outcome in Outcome})
    assert set(due(runs, windows, tasks)) == {"unavailable"}
    for outcome in Outcome:
        if outcome is not Outcome.DONE:
            assert set(due(runs, windows, tasks, retry=[outcome])) == {"unavailable", str(outcome)}


def test_due_items__a_failed_items_other_tasks_are_final(tmp_path: Path) -> None:
    tasks = [task("kind"), task("text")]
    runs = runs_in(tmp_path)
    row = Row("a", outcome=Outcome.FAILED, tasks={"kind": True, "text": False})
    add_run(runs, spec(tmp_path, *tasks), [[row]])
    assert due(runs, listed({"a": "v1"}), tasks) == {}
    assert due(runs, listed({"a": "v1"}), tasks, retry=["failed"]) == {"a": ["text"]}


def test_due_items__retry_asks_the_newest_run(tmp_path: Path) -> None:
    tasks, runs = [task("kind")], runs_in(tmp_path)
    add_run(runs, spec(tmp_path), [[Row("a", outcome=Outcome.FAILED, tasks={"kind": False}), Row("b")]])
    again = Selection(retry=(Outcome.FAILED,))
    add_run(runs, spec(tmp_path), [[Row("a")]], selection=again)
    assert due(runs, listed({"a": "v1", "b": "v1"}), tasks, retry=["failed"]) == {}
    add_run(runs, spec(tmp_path), [[Row("b", outcome=Outcome.UNAVAILABLE, tasks={})]])
    assert due(runs, listed({"a": "v1", "b": "v1"}), tasks) == {}  # its prediction of the first run stands


def test_due_items__since_a_run_or_a_date(tmp_path: Path) -> None:
    tasks, runs = [task("kind")], runs_in(tmp_path)
    for key in "abc":
        add_run(runs, spec(tmp_path), [[Row(key)]])
    windows = listed(dict.fromkeys("abcd", "v1"))
    assert set(due(runs, windows, tasks)) == {"d"}
    assert set(due(runs, windows, tasks, since="0002")) == {"b", "c", "d"}
    third = DAY_0.replace(day=4)
    assert set(due(runs, windows, tasks, since=third.isoformat())) == {"c", "d"}


def test_due_items__another_task_digest_or_corpus_says_nothing(tmp_path: Path) -> None:
    runs = runs_in(tmp_path)
    add_run(runs, spec(tmp_path, task("kind", revision=1)), [[Row("a")]])
    add_run(runs, spec(tmp_path, task("kind", revision=2), corpus_id="other"), [[Row("a")]])
    windows = listed({"a": "v1"})
    assert due(runs, windows, [task("kind", revision=1)]) == {}
    assert due(runs, windows, [task("kind", revision=2)]) == {"a": ["kind"]}


@pytest.mark.parametrize("window_rows", [1, 2, 3, 7, 40])
def test_due_items__windows_and_shards_need_not_meet(tmp_path: Path, window_rows: int) -> None:
    tasks, runs = [task("kind")], runs_in(tmp_path)
    keys = [f"{number:02d}" for number in range(40)]
    for start, step, size in ((0, 2, 3), (1, 4, 5)):  # every other item; every other one of the rest
        rows = [Row(key) for key in keys[start::step]]
        add_run(runs, spec(tmp_path), [rows[at : at + size] for at in range(0, len(rows), size)])
    found = due(runs, listed(dict.fromkeys([*keys, "\u00e9"], "v1"), window_rows=window_rows), tasks)
    assert list(found) == [*keys[3::4], "\u00e9"]


def test_history__refuses_rows_that_are_not_sorted(tmp_path: Path) -> None:
    runs = runs_in(tmp_path)
    plan = add_run(runs, spec(tmp_path), [[Row("a")], None])
    commit(runs.store, plan, 1, [Row("c"), Row("b")])
    with pytest.raises(StoreError, match=r"results/00000001\.parquet are not sorted"):
        due(runs, listed({"z": "v1"}), [task("kind")])


def test_history__works_on_s3(s3_bucket: str, tmp_path: Path) -> None:
    runs = Runs(open_store(parse(f"{s3_bucket}/out")))
    for number in range(3):
        shards = [[Row(f"{number}-{shard}-{item}") for item in range(4)] for shard in range(5)]
        add_run(runs, spec(tmp_path), shards)
    versions = {f"{run}-{shard}-{item}": "v1" for run in range(4) for shard in range(5) for item in range(4)}
    found = due(runs, listed(versions, window_rows=7), [task("kind")])
    assert list(found) == [key for key in sorted(versions) if key.startswith("3")]


# A rule that looks at one row after the other, with everything in dictionaries.

Said = dict[tuple[str, str, str], tuple[Outcome, PlanDocument]]  # key, version, task


def wanted(standing: tuple[Outcome, PlanDocument] | None, selection: Selection) -> bool:
    if standing is None or standing[0] in selection.retry:
        return True
    since, begun = selection.since, standing[1]
    if since is None:
        return False
    return begun.run_id >= since if since.isdecimal() else begun.created_at.isoformat() >= since


def hear(standing: Said, plan: PlanDocument, row: Row, tasks: Sequence[ResolvedTask]) -> None:
    digests = {one.name: one.digest for one in plan.tasks()}
    for name in (one.name for one in tasks if digests.get(one.name) == one.digest):
        place = (row.key, row.version, name)
        predicted = row.tasks.get(name)
        if row.outcome in (Outcome.DONE, Outcome.FAILED):
            if predicted is not None:
                standing[place] = (Outcome.DONE if predicted else Outcome.FAILED, plan)
        elif row.outcome is not Outcome.UNAVAILABLE and wanted(standing.get(place), plan.selection):
            standing[place] = (row.outcome, plan)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_due_items__as_a_rule_over_dictionaries_says(data: st.DataObject) -> None:
    with TemporaryDirectory() as scratch:
        runs = runs_in(Path(scratch))
        ours = [task("kind"), task("text", revision=2)]
        standing: Said = {}
        for number in range(data.draw(st.integers(0, 4))):
            theirs = [task(name, revision=data.draw(st.integers(1, 2))) for name in ("kind", "text", "more")]
            tasks = data.draw(st.lists(st.sampled_from(theirs), min_size=1, unique_by=lambda one: one.name))
            names = [one.name for one in tasks]
            corpus_id = data.draw(st.sampled_from([CORPUS, CORPUS, CORPUS, "other"]))
            shards = data.draw(rows_of(names))
            resolved = spec(Path(scratch), *tasks, corpus_id=corpus_id)
            plan = add_run(runs, resolved, shards, selection=data.draw(selections(number, names)))
            for row in (row for shard in shards if shard is not None for row in shard):
                if corpus_id == CORPUS:
                    hear(standing, plan, row, ours)
        versions = data.draw(st.dictionaries(KEYS, st.sampled_from(["v1", "v2"]), max_size=12))
        selection = data.draw(selections(4, ["kind", "text"]))
        tasks = [one for one in ours if not selection.tasks or one.name in selection.tasks]
        expected = {
            key: [one.name for one in tasks if wanted(standing.get((key, versions[key], one.name)), selection)]
            for key in sorted(versions, key=lambda key: key.encode())
        }
        windows = listed(versions, window_rows=data.draw(st.integers(1, 5)))
        found = due(runs, windows, tasks, retry=selection.retry, since=selection.since)
        assert found == {key: names for key, names in expected.items() if names}
