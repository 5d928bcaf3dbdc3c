"""Is the same due with and without what a compaction took down? Is it read in place of the runs, where it may be?"""

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.jobs.drawn_histories import KEYS, rows_of, selections
from tests.jobs.histories import CORPUS, Row, add_run, commit, listed, spec, task
from winnow_jobs import compact_standing, standing_files
from winnow_jobs.compact import compact
from winnow_jobs.draft import due_items
from winnow_jobs.events import silent
from winnow_jobs.history import History
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.schemas import Outcome
from winnow_storage.shards import shard_key
from winnow_storage.uri import parse

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KIND = task("kind")
VERSIONS = {f"{number:02d}": "v1" for number in range(10)}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(open_store(parse(str(tmp_path / "out"))))


def compacted(runs: Runs) -> bool:
    return bool(compact(runs.store, silent, lambda: NOON)["wrote"])


def due(
    store: BlobStore,
    versions: dict[str, str],
    tasks: Sequence[ResolvedTask],
    selection: Selection,
    window_rows: int = 4,
) -> dict[str, list[str]]:
    with History(store, Runs(store).plans(), corpus_id=CORPUS, tasks=tasks) as history:
        batches = list(due_items(listed(versions, window_rows=window_rows), history, tasks, selection))
    keys = [key for batch in batches for key in batch.column("key").to_pylist()]
    return dict(zip(keys, (names for batch in batches for names in batch.column("tasks").to_pylist()), strict=True))


class Watched:
    """A store that remembers of which runs rows are read, and fails where it is told to."""

    def __init__(self, store: BlobStore) -> None:
        self.root, self.info, self.walk, self.folders = store.root, store.info, store.walk, store.folders
        self._store = store
        self.runs: set[str] = set()

    def get(self, key: str) -> bytes:
        if "/results/" in key:
            self.runs.add(key.split("/")[1])
        return self._store.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if "/results/" in key:
            self.runs.add(key.split("/")[1])
        return self._store.get_range(key, start, length)


def read_of(
    runs: Runs, tasks: Sequence[ResolvedTask] = (KIND,), versions: dict[str, str] | None = None
) -> tuple[set[str], list[str]]:
    """The runs of which rows are read for a plan, and what is due."""
    store = Watched(runs.store)
    found = due(store, VERSIONS if versions is None else versions, tasks, Selection())  # type: ignore[arg-type]
    return store.runs, list(found)


def rows(*numbers: int) -> list[Row]:
    return [Row(f"{number:02d}") for number in numbers]


def two_nights(runs: Runs, folder: Path) -> tuple[PlanDocument, PlanDocument]:
    return (
        add_run(runs, spec(folder), [rows(0, 1, 2), rows(3, 4)]),
        add_run(runs, spec(folder), [rows(5, 6), rows(7)]),
    )


def test_history__reads_only_the_runs_after_the_newest_compaction(runs: Runs, tmp_path: Path) -> None:
    two_nights(runs, tmp_path)
    assert read_of(runs) == ({"0001", "0002"}, ["08", "09"])
    compacted(runs)
    assert read_of(runs) == (set(), ["08", "09"])
    add_run(runs, spec(tmp_path), [rows(8)])
    assert read_of(runs) == ({"0003"}, ["09"])
    assert compacted(runs)
    assert read_of(runs) == (set(), ["09"])
    assert not compacted(runs)


def test_history__a_compaction_on_s3(s3_bucket: str, tmp_path: Path) -> None:
    runs = Runs(open_store(parse(f"{s3_bucket}/out")))
    first, _ = two_nights(runs, tmp_path)
    compacted(runs)
    assert read_of(runs) == (set(), ["08", "09"])
    runs.store.put(shard_key(first.run_id, 0), runs.store.get(shard_key(first.run_id, 1)))
    assert read_of(runs)[0] == {"0001", "0002"}


def test_history__an_open_run_is_read_beside_the_compaction(runs: Runs, tmp_path: Path) -> None:
    two_nights(runs, tmp_path)
    plan = add_run(runs, spec(tmp_path), [rows(8), None])
    compacted(runs)
    assert read_of(runs) == ({"0003"}, ["09"])
    commit(runs.store, plan, 1, rows(9))
    assert read_of(runs) == ({"0003"}, [])


@pytest.mark.parametrize("what", ["late shard", "shard removed", "shard replaced", "run removed"])
def test_history__a_run_that_is_not_as_it_was_read(what: str, runs: Runs, tmp_path: Path) -> None:
    first, _ = two_nights(runs, tmp_path)
    late = add_run(runs, spec(tmp_path), [None, rows(9)])
    runs.close(late.run_id, {"state": "abandoned"})
    compacted(runs)
    assert read_of(runs) == (set(), ["08"])
    out = tmp_path / "out"
    if what == "late shard":
        commit(runs.store, late, 0, rows(8))
        expected: list[str] = []
    elif what == "run removed":
        shutil.rmtree(out / "runs/0002")
        expected = ["05", "06", "07", "08"]
    else:
        (out / shard_key(first.run_id, 1)).unlink()
        expected = ["03", "04", "08"]
        if what == "shard replaced":
            commit(runs.store, first, 1, rows(3))
            expected = ["04", "08"]
    assert read_of(runs) == (set(runs.ids()), expected)
    if what == "shard removed":
        add_run(runs, spec(tmp_path), [])  # the pointer moves to what has read less only with a newer snapshot
    assert compacted(runs)
    assert read_of(runs) == (set(), expected)


@pytest.mark.parametrize("what", ["record removed", "record of another version", "pointer", "part removed", "part cut"])
def test_history__a_damaged_compaction_costs_time_only(what: str, runs: Runs, tmp_path: Path) -> None:
    two_nights(runs, tmp_path)
    compacted(runs)
    current = tmp_path / "out/current"
    (part,) = (current / "00000001/_standing").iterdir()
    record = current / "00000001/_standing.json"
    if what == "record removed":
        record.unlink()
    elif what == "record of another version":
        record.write_text(record.read_text().replace(f'"format":{standing_files.FORMAT}', '"format":9'))
    elif what == "pointer":
        (current / "latest.json").write_text("{}")
    elif what == "part removed":
        part.unlink()
    else:
        data = part.read_bytes()
        part.write_bytes(data[: len(data) // 2])
    assert read_of(runs) == ({"0001", "0002"}, ["08", "09"])


def test_history__a_part_that_turns_out_damaged_half_way(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow_storage.compaction_writer.GROUP_ROWS", 1)
    monkeypatch.setattr("winnow_storage.compaction_writer.PART_ROWS", 2)
    two_nights(runs, tmp_path)
    compacted(runs)
    parts = sorted((tmp_path / "out/current/00000001/_standing").iterdir())
    assert len(parts) > 2
    assert read_of(runs) == (set(), ["08", "09"])
    parts[-2].unlink()
    assert read_of(runs) == ({"0001", "0002"}, ["08", "09"])


def test_history__another_digest_of_a_task(runs: Runs, tmp_path: Path) -> None:
    old, new = task("kind", revision=1), task("kind", revision=2)
    add_run(runs, spec(tmp_path, old), [rows(0, 1)])
    add_run(runs, spec(tmp_path, new), [rows(0)])
    compacted(runs)
    assert read_of(runs, [new], {"00": "v1", "01": "v1"}) == (set(), ["01"])
    # rolled back: the record speaks of the newest run's digest only
    assert read_of(runs, [old], {"00": "v1", "01": "v1"}) == ({"0001"}, [])
    unknown = task("kind", revision=3)
    assert read_of(runs, [unknown], {"00": "v1"}) == (set(), ["00"])


def test_history__outcomes_and_versions_that_current_does_not_hold(runs: Runs, tmp_path: Path) -> None:
    ended = [Row("00", outcome=Outcome.MISSING, tasks={}), Row("01", outcome=Outcome.UNAVAILABLE, tasks={}), *rows(2)]
    add_run(runs, spec(tmp_path), [ended])
    add_run(runs, spec(tmp_path), [[Row("02", "v2")]])
    compacted(runs)
    assert read_of(runs, versions={"00": "v1", "01": "v1", "02": "v1"}) == (set(), ["01"])
    assert read_of(runs, versions={"00": "v1", "01": "v1", "02": "v2"}) == (set(), ["01"])
    assert list(due(runs.store, VERSIONS, [KIND], Selection(retry=(Outcome.MISSING,))))[:2] == ["00", "01"]


def test_newest__codes_of_another_version_are_not_understood(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_nights(runs, tmp_path)
    compacted(runs)
    assert standing_files.newest(runs.store) is not None
    monkeypatch.setattr(standing_files, "CODES", {"done": 2, "missing": 1})
    assert standing_files.newest(runs.store) is None


def without_compaction(folder: Path, ask: Callable[[], dict[str, list[str]]]) -> dict[str, list[str]]:
    current, aside = folder / "out/current", folder / "aside"
    if not current.exists():
        return ask()
    current.rename(aside)
    try:
        return ask()
    finally:
        aside.rename(current)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_due_items__the_same_with_and_without_a_compaction(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    folder = tmp_path_factory.mktemp("runs")
    runs = Runs(open_store(parse(str(folder / "out"))))
    lacking: list[tuple[PlanDocument, int, list[Row]]] = []
    for number in range(data.draw(st.integers(1, 5))):
        theirs = [task(name, revision=data.draw(st.sampled_from([1, 2, 2]))) for name in ("kind", "text", "more")]
        tasks = data.draw(st.lists(st.sampled_from(theirs), min_size=1, unique_by=lambda one: one.name))
        corpus_id = data.draw(st.sampled_from([CORPUS, CORPUS, CORPUS, "other"]))
        drawn = data.draw(rows_of([one.name for one in tasks]))
        resolved = spec(folder, *tasks, corpus_id=corpus_id)
        chosen = data.draw(selections(number, [one.name for one in tasks]))
        plan = add_run(runs, resolved, drawn, selection=chosen)
        if data.draw(st.booleans()):
            runs.close(plan.run_id, {"state": "abandoned"})
        lacking += [(plan, shard, []) for shard, rows in enumerate(drawn) if rows is None]
        match data.draw(st.sampled_from(["compact", "compact", "late", "nothing"])):
            case "compact":
                compact(runs.store, silent, lambda: NOON)
            case "late" if lacking:
                plan, shard, _ = lacking.pop(data.draw(st.integers(0, len(lacking) - 1)))
                commit(runs.store, plan, shard, [])
            case _:
                pass
    tasks = data.draw(
        st.sampled_from([[task("kind", revision=2)], [task("text", revision=2), task("kind", revision=1)]])
    )
    versions = data.draw(st.dictionaries(KEYS, st.sampled_from(["v1", "v2"]), max_size=12))
    selection = data.draw(selections(5, [one.name for one in tasks])).model_copy(update={"tasks": ()})
    window_rows = data.draw(st.integers(1, 5))

    def ask() -> dict[str, list[str]]:
        return due(runs.store, versions, tasks, selection, window_rows)

    with History(runs.store, runs.plans(), corpus_id=CORPUS, tasks=tasks) as history:
        record = history.taken_down()
        event("no record" if record is None else f"from a record of {len(record.runs)} runs")
    assert ask() == without_compaction(folder, ask)


def test_has_standing__not_before_the_first_compaction(runs: Runs, tmp_path: Path) -> None:
    two_nights(runs, tmp_path)
    assert not compact_standing.has_standing(runs)
    compacted(runs)
    assert compact_standing.has_standing(runs)
