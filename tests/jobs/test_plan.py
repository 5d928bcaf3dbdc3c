"""What is due, decided over windows in memory: no store, no clock."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs.histories import listed
from winnow_jobs.plan import (
    DUE,
    Begun,
    Selection,
    asked_again,
    due_mask,
    due_rows,
    is_since,
    read_since,
    select,
    shard_size,
)
from winnow_jobs.standing import SAYS, Again, RunRows
from winnow_storage.errors import UsageError
from winnow_storage.schemas import Outcome

NOTHING = asked_again(Selection(), [])


def said(run: int, keys: Sequence[str], *codes: Sequence[int], version: str = "v1") -> RunRows:
    return RunRows(run, pa.array(keys), pa.array([version] * len(keys)), np.array(codes, np.int8))


def due_of_all(count: int, tasks: Sequence[str] = ("kind",)) -> list[pa.RecordBatch]:
    windows = listed({f"{number:05d}.jpg": "v1" for number in range(count)}, window_rows=64)
    return [due_rows(one, np.ones((len(tasks), one.num_rows), np.bool_), tasks) for one in windows]


def keys_of(batches: Sequence[pa.RecordBatch]) -> list[str]:
    return [key for batch in batches for key in batch.column("key").to_pylist()]


def test_shard_size__follows_the_plan_alone() -> None:
    assert [shard_size(n, "auto") for n in (0, 16, 64 * 16, 6400, 10**9)] == [16, 16, 16, 96, 2048]
    assert shard_size(10, 7) == 7


def test_due_mask__everything_while_nothing_was_said() -> None:
    (window,) = listed({"a": "v1", "b": "v1"})
    assert due_mask(window, [], then=[], now=NOTHING, tasks=2).tolist() == [[True, True], [True, True]]


def test_due_mask__per_task_and_for_this_version_of_the_item_only() -> None:
    (window,) = listed({"a": "v1", "b": "v2", "d": "v1"})
    rows = [said(0, ["a", "b", "c"], [SAYS[Outcome.DONE]] * 3, [0, SAYS[Outcome.DONE], 0])]
    found = due_mask(window, rows, then=[NOTHING], now=NOTHING, tasks=2)
    assert found.tolist() == [[False, True, True], [True, True, True]]


def test_due_mask__the_run_that_spoke_last_decides_what_is_asked_again() -> None:
    (window,) = listed({"a": "v1", "b": "v1"})
    failed, done = SAYS[Outcome.FAILED], SAYS[Outcome.DONE]
    rows = [said(0, ["a", "b"], [failed, done]), said(1, ["a", "b"], [done, failed])]
    begun = [Begun(f"{n + 1:04d}", datetime(2026, 11, 1 + n, tzinfo=UTC), Selection()) for n in range(2)]
    then = [asked_again(run.selection, begun[:n]) for n, run in enumerate(begun)]
    for selection, expected in (
        (Selection(), [False, False]),
        (Selection(retry=(Outcome.FAILED,)), [False, True]),
        (Selection(since="0002"), [True, True]),
        (Selection(since="2026-11-03T00:00:00+00:00"), [False, False]),
    ):
        found = due_mask(window, rows, then=then, now=asked_again(selection, begun), tasks=1)
        assert found.tolist() == [expected], selection


def test_due_mask__a_row_without_a_prediction_speaks_of_the_tasks_that_had_to_run() -> None:
    (window,) = listed({"a": "v1"})
    missing, done = SAYS[Outcome.MISSING], SAYS[Outcome.DONE]
    # the second run had only the second task to do: the prediction of the first one stands
    rows = [said(0, ["a"], [done], [0]), said(1, ["a"], [missing], [missing])]
    again = Again(asked_again(Selection(retry=(Outcome.MISSING,)), []).outcomes, np.zeros(2, np.bool_))
    quiet = Again(NOTHING.outcomes, np.zeros(2, np.bool_))
    assert due_mask(window, rows, then=[quiet, quiet], now=again, tasks=2).tolist() == [[False], [True]]
    everything = Again(NOTHING.outcomes, np.ones(2, np.bool_))  # it was run with --since: the first task too
    assert due_mask(window, rows, then=[quiet, everything], now=again, tasks=2).tolist() == [[True], [True]]


CODES = st.sampled_from([0, *(code for outcome, code in SAYS.items() if outcome is not Outcome.UNAVAILABLE)])
SELECTIONS = st.builds(
    Selection,
    retry=st.lists(st.sampled_from(list(SAYS)), max_size=2).map(tuple),
    since=st.sampled_from([None, None, "0001", "0002", "0003", "0004"]),
)
RUN = st.tuples(
    SELECTIONS, st.dictionaries(st.sampled_from("abc"), st.tuples(st.sampled_from(["v1", "v2"]), CODES, CODES))
)


@given(st.lists(RUN, max_size=4), SELECTIONS, st.dictionaries(st.sampled_from("abcd"), st.just("v1")))
def test_due_mask__as_a_rule_over_dictionaries_says(
    runs: list[tuple[Selection, dict[str, tuple[str, int, int]]]], now: Selection, versions: dict[str, str]
) -> None:
    outcomes = {code: outcome for outcome, code in SAYS.items()}
    standing: dict[tuple[str, str, int], tuple[Outcome, int]] = {}

    def wanted(place: tuple[str, str, int], selection: Selection) -> bool:
        if place not in standing:
            return True
        outcome, number = standing[place]
        since = selection.since
        return (outcome in selection.retry and outcome != "unavailable") or (since is not None and number >= int(since))

    for number, (selection, said_by_run) in enumerate(runs, start=1):
        for key, (version, *codes) in said_by_run.items():
            for task, code in enumerate(codes):
                place = (key, version, task)
                predicted = code in (SAYS[Outcome.DONE], SAYS[Outcome.FAILED])
                if code and (predicted or wanted(place, selection)):
                    standing[place] = (outcomes[code], number)
    expected = [[wanted((key, versions[key], task), now) for key in sorted(versions)] for task in range(2)]

    begun = [Begun(f"{n:04d}", datetime(2026, 11, n, tzinfo=UTC), run[0]) for n, run in enumerate(runs, start=1)]
    then = [asked_again(run.selection, begun[:n]) for n, run in enumerate(begun)]
    rows = [
        said(n, [key], [kind], [text], version=version)
        for n, (_, said_by_run) in enumerate(runs)
        for key, (version, kind, text) in sorted(said_by_run.items())
    ]
    for window in listed(versions):
        found = due_mask(window, rows, then=then, now=asked_again(now, begun), tasks=2)
        assert found.tolist() == expected


def test_due_rows__name_the_tasks_that_are_due() -> None:
    (window,) = listed({"a": "v1", "b": "v1", "c": "v1"})
    rows = due_rows(window, np.array([[True, False, True], [True, False, False]]), ["kind", "text"])
    assert rows.schema == DUE
    assert rows.column("key").to_pylist() == ["a", "c"]
    assert rows.column("tasks").to_pylist() == [["kind", "text"], ["kind"]]
    rows.validate(full=True)


def test_select__limit_takes_the_first_and_reads_to_the_end() -> None:
    batches = iter(due_of_all(200))
    assert keys_of(list(select(batches, Selection(limit=70)))) == [f"{n:05d}.jpg" for n in range(70)]
    assert next(batches, None) is None


def test_select__sample_is_a_fixed_random_part_whatever_the_order() -> None:
    batches = due_of_all(500)
    drawn = keys_of(list(select(batches, Selection(sample=50))))
    assert len(drawn) == 50
    assert drawn == sorted(drawn)
    assert drawn != keys_of(batches)[:50]
    turned = [batch.take(pa.array(range(batch.num_rows - 1, -1, -1))) for batch in reversed(batches)]
    again = keys_of(list(select(turned, Selection(sample=50))))
    assert again == drawn[::-1]
    assert keys_of(list(select(batches, Selection(sample=50, limit=3)))) == drawn[:3]
    assert keys_of(list(select(batches, Selection(sample=501)))) == keys_of(batches)
    assert list(select([], Selection(sample=5))) == []


@given(st.integers(1, 60), st.integers(1, 300))
def test_select__a_smaller_sample_is_part_of_a_larger_one(wanted: int, count: int) -> None:
    batches = due_of_all(count)
    small = keys_of(list(select(batches, Selection(sample=wanted))))
    large = keys_of(list(select(batches, Selection(sample=wanted + 1))))
    assert len(small) == min(wanted, count)
    assert set(small) <= set(large)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", "0007"),
        ("0007", "0007"),
        ("12345", "12345"),
        ("2026-11-03", "2026-11-03T00:00:00+00:00"),
        ("2026-11-03T18:30", "2026-11-03T18:30:00+00:00"),
        ("2026-11-03T18:30+01:00", "2026-11-03T17:30:00+00:00"),
    ],
)
def test_read_since__a_run_or_a_date(text: str, expected: str) -> None:
    assert read_since(text) == expected
    assert read_since(expected) == expected


@pytest.mark.parametrize("text", ["tuesday", "", "-1", "2026-13-01", "²"])
def test_read_since__says_what_it_takes(text: str) -> None:
    with pytest.raises(UsageError, match="neither a run nor a date") as caught:
        read_since(text)
    assert "0007" in str(caught.value.hint)


def test_is_since__at_or_after() -> None:
    begun = datetime(2026, 11, 3, 20, tzinfo=UTC)
    run = Begun("0007", begun, Selection())
    earlier, later = (read_since((begun + timedelta(seconds=by)).isoformat()) for by in (-1, 1))
    wanted = {"0006": True, "0007": True, "0008": False, earlier: True, begun.isoformat(): True, later: False}
    assert {since: is_since(run, since) for since in wanted} == wanted
    assert not is_since(run, None)
