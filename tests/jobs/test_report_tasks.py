"""What a report shows of routes, added up batch by batch."""

from typing import Any

import pyarrow as pa

from winnow_jobs.report_tasks import BINS, EXAMPLES_PER_TASK, ROUTE_COLUMNS, routes_by_task
from winnow_storage.schemas import ROUTES

SCHEMA = pa.schema([ROUTES.field(name) for name in ROUTE_COLUMNS])


def row(number: int, **changes: Any) -> dict[str, Any]:
    known = {"task": "kind", "route": "accept", "reason": "score_high", "item_id": "0", "version": "v1"}
    known |= {"key": f"{number}.jpg", "uri": "file:///a"}
    return known | {"score": number / 10, "p_ok": None} | changes


def batches(rows: list[dict[str, Any]]) -> list[pa.RecordBatch]:
    return pa.Table.from_pylist(rows, schema=SCHEMA).to_batches(max_chunksize=3)


def test_routes_by_task__counts_and_the_first_that_go_to_people() -> None:
    sent = [row(number, route="review" if number % 2 else "audit", reason="score_low") for number in range(10)]
    rows = [*sent, *(row(number) for number in range(5)), row(0, task="text", route="hold", reason="no_score")]
    found = routes_by_task(batches(rows), ["kind", "text", "free"])
    assert found["kind"].routes == {"review": 5, "audit": 5, "accept": 5}
    assert found["kind"].reasons == {"score_low": 10, "score_high": 5}
    assert [one["key"] for one in found["kind"].examples] == [f"{number}.jpg" for number in range(EXAMPLES_PER_TASK)]
    assert (found["text"].routes, found["text"].examples, found["free"].routes) == ({"hold": 1}, [], {})


def test_confidence__p_ok_where_there_is_any_and_what_is_no_number_is_left_out() -> None:
    scores = [row(number) for number in range(1, 21)] + [row(0, score=float("nan")), row(0, score=float("inf"))]
    name, bars = routes_by_task(batches(scores), ["kind"])["kind"].confidence()
    assert (name, len(bars), sum(bar["count"] for bar in bars)) == ("score", BINS, 20)
    assert (round(bars[0]["from"], 3), round(bars[-1]["to"], 3), max(bar["height"] for bar in bars)) == (0.1, 2.0, 1.0)
    name, bars = routes_by_task(batches([*scores, row(0, p_ok=0.5)]), ["kind"])["kind"].confidence()
    assert (name, bars[0]["count"]) == ("p_ok", 1)
    assert routes_by_task([], ["kind"])["kind"].confidence() == ("", [])
