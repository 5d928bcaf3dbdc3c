import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from winnow_jobs.plan import Selection, due_work, shard_size
from winnow_storage.ids import item_id
from winnow_storage.schemas import SNAPSHOT, WORK


def snapshot(count: int) -> pa.Table:
    keys = [f"{n:05d}.jpg" for n in range(count)]
    rows = [
        {"item_id": item_id("c", key), "key": key, "uri": f"file:///{key}", "version": f"v{key}", "bytes": 10}
        for key in keys
    ]
    return pa.Table.from_pylist(rows, schema=SNAPSHOT)


def pairs(table: pa.Table, places: list[int]) -> set[tuple[str, str]]:
    return {(table["item_id"][n].as_py(), table["version"][n].as_py()) for n in places}


def test_shard_size__follows_the_plan_alone() -> None:
    assert [shard_size(n, "auto") for n in (0, 16, 64 * 16, 6400, 10**9)] == [16, 16, 16, 100, 2048]
    assert shard_size(10, 7) == 7


def test_due_work__leaves_out_what_is_final_per_task() -> None:
    table = snapshot(4)
    work, _ = due_work(table, {"kind": pairs(table, [0, 1]), "text": pairs(table, [1, 2])}, Selection())
    assert work.schema == WORK
    assert dict(zip(work["key"].to_pylist(), work["tasks"].to_pylist(), strict=True)) == {
        "00000.jpg": ["text"],
        "00002.jpg": ["kind"],
        "00003.jpg": ["kind", "text"],
    }


def test_due_work__another_version_of_an_item_is_due() -> None:
    table = snapshot(1)
    work, _ = due_work(table, {"kind": {(table["item_id"][0].as_py(), "older")}}, Selection())
    assert work.num_rows == 1


def test_due_work__only_the_selected_tasks() -> None:
    table = snapshot(2)
    work, _ = due_work(table, {"kind": set(), "text": set()}, Selection(tasks=("text",)))
    assert work["tasks"].to_pylist() == [["text"], ["text"]]


def test_due_work__limit_takes_the_first_and_sample_a_fixed_random_part() -> None:
    table = snapshot(200)
    first, _ = due_work(table, {"kind": set()}, Selection(limit=5))
    assert first["key"].to_pylist() == [f"{n:05d}.jpg" for n in range(5)]
    drawn, _ = due_work(table, {"kind": set()}, Selection(sample=50))
    again, _ = due_work(table, {"kind": set()}, Selection(sample=50))
    assert drawn.num_rows == 50
    assert drawn == again
    assert drawn["key"].to_pylist() == sorted(drawn["key"].to_pylist())
    assert drawn["key"].to_pylist() != table["key"].to_pylist()[:50]


@given(st.integers(0, 300), st.integers(1, 40), st.sets(st.integers(0, 299)))
def test_due_work__every_due_item_is_in_exactly_one_shard(count: int, wanted: int, done: set[int]) -> None:
    table = snapshot(count)
    done = {n for n in done if n < count}
    work, size = due_work(table, {"kind": pairs(table, sorted(done))}, Selection(), wanted_shard_items=wanted)
    assert size == wanted
    assert work["key"].to_pylist() == [f"{n:05d}.jpg" for n in range(count) if n not in done]
    shards = work["shard"].to_pylist()
    assert shards == [n // wanted for n in range(count - len(done))]
