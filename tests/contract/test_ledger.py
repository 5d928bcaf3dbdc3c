"""Do SQLite and Postgres keep what the ledger promises, whoever writes at the same time? One suite over both."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, text

from winnow_storage import ledger_engine
from winnow_storage.errors import LedgerError
from winnow_storage.ledger import Ledger, open_ledger
from winnow_storage.ledger_tables import METADATA, SCHEMA, VERSION_TABLE
from winnow_storage.records import Label, LabelStudioProject, PushState, ReviewTask, RunRecord

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
OUT = "file:///data/out"
EXAMPLES = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
fresh = count(1000)  # ids for the examples of a property, which share a database


@pytest.fixture(params=["sqlite", "postgres"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """The URL of an empty database, another one at every call."""
    if request.param == "sqlite":
        numbers = count()
        return lambda: f"sqlite:///{tmp_path}/made/{next(numbers)}/ledger.db"
    server = request.getfixturevalue("postgres")
    return lambda: server.url(server.create_database())


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with open_ledger(url) as opened:
        yield opened


def run_of(run_id: str = "0001", **changes: object) -> RunRecord:
    return replace(RunRecord(OUT, run_id, "job", "open", "digest", NOON), **changes)


def review_task(key: str, **changes: object) -> ReviewTask:
    task = ReviewTask(
        dedupe_key=key, output=OUT, job="job", run_id="0001", task="kind", operator="classify", item_id="item",
        version="v1", key="ä b.jpg", uri="file:///x", purpose="review", round=0, reason="uncalibrated",
    )  # fmt: skip
    return replace(task, **changes)


def label(label_id: str, **changes: object) -> Label:
    event = Label(
        label_id=label_id, event="created", dedupe_key="k", job="job", task="kind", operator="classify", item_id="item",
        version="v1", key="a.jpg", uri="file:///x", purpose="review", run_id="0001", server="http://ls",
        annotation_id="1", project_id=7, ls_task_id=2**40,
        annotator="ann@example.org", created_at=NOON, updated_at=NOON, was_cancelled=False,
        lead_time_s=1.5, value='{"label":"ß"}', raw="[]", config_hash=None, model=None, shown=None,
    )  # fmt: skip
    return replace(event, **changes)


# --- schema


def test_open__the_schema_is_that_of_the_tables(ledger: Ledger) -> None:
    with ledger._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert context.get_current_revision() == SCHEMA
        assert set(inspect(connection).get_table_names()) == {*METADATA.tables, VERSION_TABLE}


def test_open__again_keeps_everything(url: str) -> None:
    with open_ledger(url) as first:
        first.record_run(run_of())
    with open_ledger(url) as second:
        assert second.runs() == [run_of()]


def test_open__many_at_once_on_an_empty_database(new_url: Callable[[], str]) -> None:
    for _ in range(5):
        url = new_url()
        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(lambda _, url=url: open_ledger(url), range(8)))
        opened[0].record_run(run_of())
        assert [one.runs() for one in opened] == [[run_of()]] * 8
        for one in opened:
            one.close()


def test_open__knows_the_last_migration() -> None:
    assert ScriptDirectory(str(ledger_engine.MIGRATIONS)).get_current_head() == SCHEMA


def test_open__refuses_a_newer_schema(ledger: Ledger, url: str) -> None:
    with ledger._engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(LedgerError, match=f"has the schema 9999, and this Winnow knows up to {SCHEMA}") as caught:
        open_ledger(url)
    assert "newer Winnow" in str(caught.value.hint)


def test_open__in_a_database_of_another_program(ledger: Ledger, url: str) -> None:
    with ledger._engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
    with pytest.raises(LedgerError, match="already exists") as caught:
        open_ledger(url)
    assert "a database of its own" in str(caught.value.hint)


# --- runs


def test_runs__are_replaced_by_output_and_id(ledger: Ledger) -> None:
    other = run_of(output="s3://b/o", job="other")
    ended = run_of(state="partial", ended_at=NOON + timedelta(seconds=1), summary='{"items": 3}')
    for run in (run_of(), run_of("0002"), other, ended):
        ledger.record_run(run)
    assert ledger.runs() == [ended, run_of("0002"), other]
    assert ledger.runs(output=OUT) == [ended, run_of("0002")]
    assert ledger.runs(job="other") == [other]
    assert ledger.runs(output=OUT, job="other") == []
    assert ledger.find_runs("0001") == [ended, other]


def test_runs__times_are_instants_in_utc(ledger: Ledger) -> None:
    ledger.record_run(run_of(started_at=NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))))
    (found,) = ledger.runs()
    assert (found.started_at, found.started_at.tzinfo) == (NOON, UTC)


def test_runs__a_time_without_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="has no time zone"):
        ledger.record_run(run_of(started_at=NOON.replace(tzinfo=None)))


# --- review tasks


def test_review_tasks__keep_their_order_and_their_state_when_added_again(ledger: Ledger) -> None:
    tasks = [review_task(f"{number * 7919 % 5003:05}") for number in range(5000)]
    assert ledger.add_review_tasks(tasks) == 5000
    assert ledger.claim([tasks[1].dedupe_key], 3, fence=8) == {tasks[1].dedupe_key}
    ledger.mark_pushed({tasks[2].dedupe_key: 2**40}, 3)
    assert ledger.add_review_tasks([*tasks, review_task("new"), review_task("new", reason="second")]) == 1

    sent = replace(tasks[1], state=PushState.SENDING, project_id=3, fence=8)
    pushed = replace(tasks[2], state=PushState.PUSHED, project_id=3, ls_task_id=2**40)
    wanted = [tasks[0], sent, pushed, *tasks[3:], review_task("new")]
    assert ledger.review_tasks(output=OUT) == wanted
    assert ledger.review_tasks(output=OUT, states=[PushState.SENDING, PushState.PUSHED]) == [sent, pushed]
    assert ledger.review_tasks_by_key([task.dedupe_key for task in tasks[:2000]] + ["unknown"]) == {
        task.dedupe_key: task for task in wanted[:2000]
    }
    assert ledger.review_counts(OUT) == {"kind": {"pending": 4999, "pushed": 1, "sending": 1}}


def test_review_tasks__are_told_apart_by_output_and_task(ledger: Ledger) -> None:
    here, text_task, there = review_task("a"), review_task("b", task="text"), review_task("c", output="s3://b/o")
    ledger.add_review_tasks([here, text_task, there])
    assert ledger.review_tasks(output=OUT) == [here, text_task]
    assert ledger.review_tasks(output=OUT, task="text") == [text_task]
    assert ledger.review_tasks(output=OUT, states=[]) == []
    assert ledger.review_counts("s3://b/o") == {"kind": {"pending": 1}}
    assert ledger.review_counts("nowhere") == {}


def test_review_tasks__sent_to_a_new_project_lose_the_old_task(ledger: Ledger) -> None:
    ledger.add_review_tasks([review_task("a")])
    ledger.mark_pushed({"a": 5}, 1)
    assert ledger.claim(["a"], 2, fence=8) == {"a"}
    assert ledger.review_tasks_by_key(["a"]) == {"a": review_task("a", state=PushState.SENDING, project_id=2, fence=8)}


def test_review_tasks__of_two_who_claim_one_gets_each(ledger: Ledger) -> None:
    keys = [f"{number:04}" for number in range(2500)]
    ledger.add_review_tasks([review_task(key) for key in keys])
    with ThreadPoolExecutor(4) as pool:
        claims = list(pool.map(lambda fence: ledger.claim(keys, 1, fence), range(4)))
    assert sorted(key for claimed in claims for key in claimed) == keys


def test_review_tasks__are_free_again_only_for_the_import_that_had_them(ledger: Ledger) -> None:
    ledger.add_review_tasks([review_task(key) for key in "abcd"])
    ledger.claim("abc", 1, fence=5)
    ledger.mark_pushed({"c": 7}, 1)
    ledger.release("abc", fence=6)
    assert ledger.claim("abcd", 1, fence=9) == {"d"}
    ledger.release("abc", fence=5)
    ledger.mark_deleted("b")
    assert ledger.claim("abcd", 1, fence=9) == {"a"}
    assert ledger.pushed_ids(OUT, 1) == {"c": 7}
    assert ledger.pushed_ids(OUT, 2) == ledger.pushed_ids("elsewhere", 1) == {}
    assert ledger.review_counts(OUT) == {"kind": {"deleted": 1, "pushed": 1, "sending": 2}}


def test_labels__what_was_read_before_others_wrote_is_not_added(ledger: Ledger) -> None:
    assert ledger.newest_event("http://ls", 7) == 0
    assert ledger.append_labels([label("a")], following=("http://ls", 7, 0)) == 1
    newest = ledger.newest_event("http://ls", 7)
    assert ledger.append_labels([label("b", project_id=8)]) == 1
    assert ledger.newest_event("http://ls", 7) == newest
    assert ledger.append_labels([label("c")], cursor=("pull", "t1"), following=("http://ls", 7, 0)) is None
    assert ledger.cursor("pull") is None
    assert ledger.append_labels([label("c")], cursor=("pull", "t1"), following=("http://ls", 7, newest)) == 1
    assert [one.label_id for one in ledger.labels("job")] == ["a", "b", "c"]


def test_review_tasks__nothing_to_do_is_fine(ledger: Ledger) -> None:
    assert ledger.add_review_tasks([]) == 0
    assert ledger.claim([], 1, fence=8) == set()
    ledger.release([], fence=8)
    ledger.mark_deleted([])
    ledger.mark_pushed({}, 1)
    assert ledger.review_tasks_by_key([]) == {}


@EXAMPLES
@given(st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=6))
def test_review_tasks__each_key_is_new_once(ledger: Ledger, batches: list[list[int]]) -> None:
    output = f"out-{next(fresh)}"
    seen: dict[str, None] = {}
    for batch in batches:
        keys = [f"{output}-{number}" for number in batch]
        new = {key: None for key in keys if key not in seen}
        seen |= new
        assert ledger.add_review_tasks([review_task(key, output=output) for key in keys]) == len(new)
    assert [task.dedupe_key for task in ledger.review_tasks(output=output)] == list(seen)


def test_review_tasks__threads_with_the_same_keys_in_other_orders(ledger: Ledger) -> None:
    tasks = [review_task(f"{number:05}") for number in range(2500)]
    orders = [tasks, tasks[::-1], tasks[1000:] + tasks[:1000], tasks[::-1]]
    with ThreadPoolExecutor(4) as pool:
        new = list(pool.map(ledger.add_review_tasks, orders))
    assert sum(new) == 2500
    assert sorted(task.dedupe_key for task in ledger.review_tasks(output=OUT)) == [task.dedupe_key for task in tasks]


ADDER = """
import sys
from winnow_storage.ledger import open_ledger
from winnow_storage.records import ReviewTask
with open_ledger(sys.argv[1]) as ledger:
    print("ready", flush=True)
    sys.stdin.readline()
    new = 0
    for first in range(0, 600, 20):
        keys = [f"{number:04}" for number in range(first, first + 20)]
        new += ledger.add_review_tasks([ReviewTask(key, *["x"] * 10, 0, "x") for key in keys])
    print(new)
"""


def test_review_tasks__two_processes_from_an_empty_database_on(url: str) -> None:
    adders = [
        subprocess.Popen([sys.executable, "-c", ADDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for adder in adders:
        assert adder.stdout is not None
        assert adder.stdout.readline() == "ready\n"
    for adder in adders:
        assert adder.stdin is not None
        adder.stdin.write("go\n")
        adder.stdin.flush()
    printed = [adder.communicate(timeout=120)[0] for adder in adders]
    assert [adder.returncode for adder in adders] == [0, 0]
    assert sum(map(int, printed)) == 600
    with open_ledger(url) as ledger:
        assert len(ledger.review_tasks(output="x")) == 600


# --- Label Studio projects


def test_project__is_known_by_server_job_and_task(ledger: Ledger) -> None:
    first = LabelStudioProject("http://ls", "job", "kind", 1, "hash")
    changed = replace(first, config_hash="other")
    assert ledger.save_project(first) == first
    assert ledger.save_project(changed) == changed
    assert ledger.project("http://ls", "job", "kind") == changed
    assert ledger.project("http://other", "job", "kind") is None


def test_project__of_two_that_were_made_at_once_the_first_one_stands(ledger: Ledger) -> None:
    first, other = (LabelStudioProject("http://ls", "job", "kind", number, "hash") for number in (1, 2))
    ledger.save_project(first)
    assert ledger.save_project(other) == first
    assert ledger.save_project(other, instead_of=7) == first
    assert ledger.save_project(other, instead_of=1) == other  # which is in Label Studio no more
    assert ledger.project("http://ls", "job", "kind") == other


# --- labels


def test_labels__are_added_once_with_every_field(ledger: Ledger) -> None:
    empty = label("b", annotator=None, created_at=None, updated_at=None, lead_time_s=None, value=None, raw=None)
    assert ledger.append_labels([label("a"), empty, label("a", value="later")]) == 2
    assert ledger.append_labels([label("a", value="later"), label("c", task="text")]) == 1
    assert ledger.labels("job") == [label("a"), empty, label("c", task="text")]
    assert ledger.labels("job", "text") == [label("c", task="text")]
    assert ledger.labels("other") == []


def test_labels__the_cursor_moves_with_them(ledger: Ledger) -> None:
    assert ledger.cursor("pull") is None
    assert ledger.append_labels([label("a")], cursor=("pull", "t1")) == 1
    assert ledger.append_labels([], cursor=("pull", "t2")) == 0
    assert (ledger.cursor("pull"), ledger.cursor("other")) == ("t2", None)


def test_labels__all_or_nothing_with_the_cursor(ledger: Ledger) -> None:
    ledger.append_labels([label("a")], cursor=("pull", "t1"))
    broken = label("broken", created_at=NOON.replace(tzinfo=None))
    with pytest.raises(LedgerError):
        ledger.append_labels([*(label(f"n{number}") for number in range(1500)), broken], cursor=("pull", "t2"))
    with pytest.raises(LedgerError):  # the labels are in, the cursor is not: neither may stay
        ledger.append_labels([label("b")], cursor=("pull", None))  # type: ignore[arg-type]
    assert ledger.labels("job") == [label("a")]
    assert ledger.cursor("pull") == "t1"


def test_labels__text_that_no_database_takes_is_refused_whole(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="surrogates not allowed"):
        ledger.append_labels([label("a"), label("b", value="\ud800")])
    assert ledger.labels("job") == []


@EXAMPLES
@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["created", "updated", "deleted"]), st.booleans())))
def test_labels__the_newest_event_of_an_annotation_counts(ledger: Ledger, history: list[tuple[int, str, bool]]) -> None:
    project = next(fresh)
    events = [
        label(f"{project}-{place}", annotation_id=str(number), event=kind, was_cancelled=skipped, project_id=project,
              job=f"job-{project}")
        for place, (number, kind, skipped) in enumerate(history)
    ]  # fmt: skip
    for event in events:
        ledger.append_labels([event])
    newest = {event.annotation_id: event for event in events}
    live = {key: event for key, event in newest.items() if event.event != "deleted"}
    answers = sum(not event.was_cancelled for event in live.values())
    assert ledger.live_annotations("http://ls", project) == live
    assert ledger.live_annotations("http://other", project) == {}  # which counts its projects from 1 too
    assert ledger.label_counts(f"job-{project}") == ({"kind": answers} if answers else {})


def test_label_counts__annotations_of_two_projects_are_two(ledger: Ledger) -> None:
    ledger.append_labels([label("a", project_id=1), label("b", project_id=2), label("c", project_id=3, task="text")])
    assert ledger.label_counts("job") == {"kind": 2, "text": 1}


# --- failing


def test_write__gives_up_when_another_process_keeps_the_ledger(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_engine, "LOCK_WAIT_S", 1)
    with open_ledger(url) as holder, open_ledger(url) as waiter:
        with ledger_engine.writing(holder._engine, METADATA.tables["runs"]):
            assert waiter.runs() == []  # readers go on
            with pytest.raises(LedgerError, match="lock") as caught:
                waiter.record_run(run_of())
        assert "another process holds the ledger" in str(caught.value.hint)
        waiter.record_run(run_of())
        assert holder.runs() == [run_of()]


def test_attempts__count_up_until_they_end_whoever_notes_them(ledger: Ledger) -> None:
    ledger.begin_attempts(OUT, "0001", [4])
    ledger.begin_attempts(OUT, "0001", [5])
    ledger.begin_attempts(OUT, "0001", [4])
    ledger.begin_attempts(OUT, "0002", [4])
    assert ledger.open_attempts(OUT, "0001") == {4: 2, 5: 1}
    ledger.begin_attempts(OUT, "0001", [6], ended=[4, 99])
    assert ledger.open_attempts(OUT, "0001") == {5: 1, 6: 1}
    ledger.end_attempts(OUT, "0001", [5, 6])
    assert ledger.open_attempts(OUT, "0001") == {}
    assert ledger.open_attempts(OUT, "0002") == {4: 1}


def test_attempts__two_drivers_at_once_lose_none(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ledger.begin_attempts(OUT, "0001", [7]), range(40)))
    assert ledger.open_attempts(OUT, "0001") == {7: 40}
