"""Which items a plan expects to be copies, and what becomes of them, night after night, without Ray."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jobs.damages import rewrite, set_value
from tests.jobs.whole_nights import NOW, Predicted, begin, job, night, predicted, reviewed, rows, runs_of, work_through
from tests.workers.pipelines import save_image
from winnow_jobs import content_tags
from winnow_jobs.begin import begin_or_go_on
from winnow_jobs.compact import compact
from winnow_jobs.copies import expected_copies
from winnow_jobs.events import silent
from winnow_jobs.plan import DUE, Selection
from winnow_jobs.resolved import ResolvedCorpus
from winnow_jobs.review import read_routes
from winnow_jobs.run import finish
from winnow_jobs.verify import RunCheck, verify_run
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_current
from winnow_storage.parts import WorkReader
from winnow_storage.uri import parse

__all__ = ["predicted"]  # a fixture

DISTINCT = 5
NIGHT = {"a": 0, "b": 1, "c": 0, "d": 2, "e": 1, "f": 0, "g": 3, "h": 4, "i": 4, "j": 2}  # name -> which image


def corpus(folder: Path, images: Mapping[str, int], name: str = "corpus") -> Path:
    """PNG files of which those of the same number are the same."""
    for key, number in images.items():
        save_image(folder / name / f"{key}.png", seed=number)
    return folder / name


def copied(found: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """From whom each copy was copied, by the letters of their keys."""
    names = {row["item_id"]: row["key"][0] for row in found}
    return {row["key"][0]: names[row["copied_from"]] for row in found if row["copied_from"] is not None}


def without(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says whether or not it is a copy, whatever the shard."""
    return {name: value for name, value in row.items() if name not in ("copied_from", "shard")}


def test_night__each_distinct_content_is_predicted_once(tmp_path: Path, predicted: Predicted) -> None:
    corpus(tmp_path, NIGHT)
    plain, once = job(tmp_path, same_content="each", out="plain"), job(tmp_path)
    assert (night(plain)["copied"], predicted.since()) == (0, len(NIGHT))
    summary = night(once)
    assert (summary["copied"], summary["state"], predicted.since()) == (5, "done", DISTINCT)
    assert summary["predictions"] == {"kind": len(NIGHT)}
    assert copied(rows(once)) == {"c": "a", "e": "b", "f": "a", "i": "h", "j": "d"}
    assert [without(row) for row in rows(once)] == [without(row) for row in rows(plain)]
    check = verify_run(runs_of(once), "0001")
    assert (check.findings, check.notes) == ([], [])
    assert night(once) == night(plain) == {}  # nothing is due


def test_night__the_work_has_copies_in_the_last_shards(tmp_path: Path) -> None:
    corpus(tmp_path, NIGHT)
    resolved = job(tmp_path)
    plan = begin(resolved)
    assert plan is not None
    assert (plan.items, plan.copies, plan.shards, plan.copy_shards, plan.first_copy_shard) == (10, 5, 4, 2, 2)
    work = WorkReader(runs_of(resolved).store, plan.work)
    keys = [[key[0] for key in work.rows(shard)["key"].to_pylist()] for shard in range(4)]
    assert keys == [["a", "b", "d", "g"], ["h"], ["c", "e", "f", "i"], ["j"]]
    leaders = [place for shard in range(4) for place in work.rows(shard)["leader"].to_pylist()]
    at = [None if place is None else (place["run_id"], place["shard"], place["row"]) for place in leaders]
    assert at == [None] * 5 + [
        ("0001", 0, 0), ("0001", 0, 1), ("0001", 0, 0), ("0001", 1, 0), ("0001", 0, 2)
    ]  # fmt: skip


def test_night__a_run_that_was_cut_off_gives_the_same_rows(tmp_path: Path) -> None:
    corpus(tmp_path, NIGHT)
    whole, cut = job(tmp_path, out="whole"), job(tmp_path, out="cut")
    night(whole)
    plan = begin(cut)
    assert plan is not None
    for shards in ([1], [0], [3]):  # each by another process
        work_through(runs_of(cut), plan, shards=shards)
    assert begin(cut) == plan
    tally = work_through(runs_of(cut), plan)
    assert finish(runs_of(cut), plan, tally, 1.0)["copied"] == 5
    assert rows(cut) == rows(whole)


def test_night__what_moved_or_was_touched_is_copied_from_earlier_runs(tmp_path: Path, predicted: Predicted) -> None:
    folder = corpus(tmp_path, NIGHT)
    resolved = job(tmp_path)
    night(resolved)
    predicted.since()
    shutil.copytree(folder, folder / "moved")
    summary = night(resolved)
    assert (summary["items"], summary["copied"], predicted.since()) == (10, 10, 0)
    first, second = rows(resolved), rows(resolved, "0002")
    by_key = {row["key"]: row for row in first}
    assert {row["key"] for row in second} == {f"moved/{key}" for key in by_key}
    for row in second:
        origin = by_key[row["key"].removeprefix("moved/")]
        assert row["copied_from"] == (origin["copied_from"] or origin["item_id"])  # never from a copy
        assert row["kind"] == origin["kind"]
    plan = runs_of(resolved).plan("0002")
    assert (plan.copies, plan.shards, plan.first_copy_shard) == (10, 3, 0)
    assert verify_run(runs_of(resolved), "0002").findings == []

    for path in folder.rglob("*.png"):
        os.utime(path, ns=(0, 0))
    save_image(folder / "new.png", seed=99)
    summary = night(resolved)
    assert (summary["items"], summary["copied"], predicted.since()) == (21, 20, 1)
    current = read_current(parse(resolved.output))
    assert (current.num_rows, current["key"].to_pylist()) == (21, sorted(current["key"].to_pylist()))
    compact(runs_of(resolved).store, silent, lambda: runs_of(resolved).plan("0003").created_at)
    assert read_current(parse(resolved.output)).equals(current)
    assert night(resolved) == {}


def test_night__since_and_other_limits_copy_nothing_of_the_runs_before(tmp_path: Path, predicted: Predicted) -> None:
    corpus(tmp_path, NIGHT)
    resolved = job(tmp_path)
    night(resolved)
    predicted.since()
    assert (night(resolved, since="0001")["copied"], predicted.since()) == (5, DISTINCT)
    corpus(tmp_path, {"k": 0})
    smaller = resolved.model_copy(update={"limits": resolved.limits.model_copy(update={"max_pixels": 2000})})
    assert (night(smaller)["copied"], predicted.since()) == (0, 1)


def test_night__a_failed_leader_leads_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(tmp_path, {"a": 0, "b": 0, "c": 1, "d": 1})
    for name in "ab":
        (tmp_path / f"corpus/{name}.png").write_bytes(b"not an image")
    plan = begin(job(tmp_path))
    assert plan is not None
    assert plan.copies == 2
    summary = finish(runs_of(job(tmp_path)), plan, work_through(runs_of(job(tmp_path)), plan), 1.0)
    assert (summary["copied"], summary["outcomes"]["unreadable"]) == (1, 2)
    assert copied(rows(job(tmp_path))) == {"d": "c"}


def test_night__a_leader_has_all_the_tasks_that_are_due(tmp_path: Path, predicted: Predicted) -> None:
    corpus(tmp_path, {"a": 0})
    resolved = job(tmp_path, "kind", "text")
    night(resolved, tasks=["kind"])
    corpus(tmp_path, {"b": 0, "c": 0})
    predicted.since()
    assert (night(resolved, tasks=["kind"], limit=1)["copied"], predicted.since()) == (1, 0)  # b, of a
    plan = begin(resolved)
    assert plan is not None
    assert plan.copies == 2  # a, due for text only, leads b, of which the same is true, and c
    summary = finish(runs_of(resolved), plan, work_through(runs_of(resolved), plan), 1.0)
    assert (summary["copied"], predicted.since()) == (1, 3)
    assert copied(rows(resolved, "0003")) == {"b": "a"}
    assert verify_run(runs_of(resolved), "0003").findings == []


def test_night__only_predictions_of_earlier_runs_lead(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for name in "ab":
        (tmp_path / f"corpus/{name}.png").write_bytes(b"not an image")
    night(job(tmp_path))
    (tmp_path / "corpus/c.png").write_bytes(b"not an image")
    corpus(tmp_path, {"d": 0, "e": 0})
    plan = begin(job(tmp_path))
    assert plan is not None
    assert (plan.items, plan.copies) == (3, 1)
    work_through(runs_of(job(tmp_path)), plan, shards=[0])  # e is never worked on: the run is abandoned
    again, _ = begin_or_go_on(runs_of(job(tmp_path)), job(tmp_path), Selection(), new=True, now=lambda: NOW)
    assert again is not None
    assert (again.run_id, again.items, again.copies, again.first_copy_shard) == ("0003", 1, 1, 0)
    work_through(runs_of(job(tmp_path)), again)
    (row,) = rows(job(tmp_path), "0003")
    assert row["copied_from"] == next(one["item_id"] for one in rows(job(tmp_path), "0002") if one["key"] == "d.png")


def test_night__a_forged_tag_is_predicted_by_itself(
    s3_bucket: str, s3_client: Any, tmp_path: Path, predicted: Predicted, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, folder = s3_bucket.removeprefix("s3://"), corpus(tmp_path, NIGHT)
    for path in folder.iterdir():
        s3_client.put_object(Bucket=bucket, Key=f"photos/{path.name}", Body=path.read_bytes())
    once = job(tmp_path, corpus=f"{s3_bucket}/photos")
    summary = night(once)
    assert (summary["copied"], predicted.since()) == (5, DISTINCT)
    assert copied(rows(once)) == {"c": "a", "e": "b", "f": "a", "i": "h", "j": "d"}
    # an MD5 can be forged, so two ETags that are the same prove nothing
    monkeypatch.setattr(content_tags, "tag", lambda kind, size_bytes, value: 7)
    forged = job(tmp_path, corpus=f"{s3_bucket}/photos", out="forged")
    plan = begin(forged)
    assert plan is not None
    assert plan.copies == 9
    night(forged)
    assert predicted.since() == 8  # all but the two that are as the first one
    assert copied(rows(forged)) == {"c": "a", "f": "a"}
    assert [without(row) for row in rows(forged)] == [without(row) for row in rows(once)]


def test_night__a_moved_prefix_predicts_nothing(
    s3_bucket: str, s3_client: Any, tmp_path: Path, predicted: Predicted
) -> None:
    bucket, folder = s3_bucket.removeprefix("s3://"), corpus(tmp_path, NIGHT)
    for path in folder.iterdir():
        s3_client.put_object(Bucket=bucket, Key=f"photos/{path.name}", Body=path.read_bytes())
    night(job(tmp_path, corpus=f"{s3_bucket}/photos"))
    predicted.since()
    for path in folder.iterdir():
        source = {"Bucket": bucket, "Key": f"photos/{path.name}"}
        s3_client.copy_object(Bucket=bucket, Key=f"moved/2026/{path.name}", CopySource=source)
    moved = job(tmp_path, corpus=f"{s3_bucket}/moved")
    summary = night(moved)
    assert (summary["items"], summary["copied"], predicted.since()) == (10, 10, 0)
    assert {row["uri"].removeprefix(f"{s3_bucket}/")[:11] for row in rows(moved, "0002")} == {"moved/2026/"}


def test_routes__a_person_is_asked_once_about_the_same_bytes(tmp_path: Path) -> None:
    corpus(tmp_path, NIGHT)
    resolved = reviewed(job(tmp_path), policies={"kind": {"uncalibrated": "review"}}, budget=100)
    assert night(resolved)["review"]["routes"] == {"kind": {"hold": 5, "review": DISTINCT}}
    routes = read_routes(runs_of(resolved).store, "0001")
    assert routes is not None
    assert {row["key"][0] for row in routes.to_pylist() if row["reason"] == "same_content"} == set("cefij")
    shutil.copytree(tmp_path / "corpus", tmp_path / "corpus/moved")
    # images that moved away cannot be shown any more: one of each is sent again
    assert night(resolved)["review"]["routes"] == {"kind": {"hold": 5, "review": DISTINCT}}
    assert verify_run(runs_of(resolved), "0002").findings == []


@pytest.fixture
def copied_night(tmp_path: Path) -> Path:
    """An output with copies in its shard 2."""
    corpus(tmp_path, NIGHT)
    night(job(tmp_path))
    return tmp_path / "out"


def checked(out: Path) -> RunCheck:
    return verify_run(_runs(out), "0001")


def _runs(out: Path) -> Any:
    from winnow_jobs.runs import Runs

    return Runs(open_store(parse(str(out))))


SHARD = "runs/0001/results/00000002.parquet"


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("copied_from", "f" * 32, "rows copied from another item than the work names: 1, such as 'c.png'"),
        ("content_sha256", "0" * 64, "copied rows that are not as their leader's: 1, such as 'c.png'"),
        ("width", 1, "copied rows that are not as their leader's: 1, such as 'c.png'"),
        ("kind.preproc", "other", "copied rows that are not as their leader's: 1, such as 'c.png'"),
        ("copied_from", None, "its receipt says copied 4, its rows add up to 3"),
    ],
)
def test_verify__finds_a_copy_that_is_none(copied_night: Path, column: str, value: object, what: str) -> None:
    rewrite(SHARD, set_value(column, value))(copied_night)
    found = checked(copied_night).findings
    assert {finding.key for finding in found} == {SHARD}
    assert [finding.what for finding in found] == [what]


def test_verify__copies_outlive_the_run_of_their_leaders(tmp_path: Path) -> None:
    corpus(tmp_path, {"a": 0})
    night(job(tmp_path))
    corpus(tmp_path, {"b": 0, "c": 0})
    night(job(tmp_path))
    shutil.rmtree(tmp_path / "out/runs/0001")
    check = verify_run(runs_of(job(tmp_path)), "0002")
    assert (check.findings, check.notes) == ([], ["2 images were copied from rows that are not there any more"])


# Against a rule over dictionaries.


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, 0, 1, 2]), st.sampled_from("xyz")), max_size=20), st.integers(1, 7))
def test_expected_copies__as_a_rule_over_dictionaries_says(items: list[tuple[int | None, str]], batch: int) -> None:
    listed = [
        {"item_id": str(n), "key": f"{n:02d}", "uri": f"s3://b/{n}", "version": tag, "bytes": size, "tasks": ["kind"]}
        for n, (size, tag) in enumerate(items)
    ]
    table = pa.Table.from_pylist(listed, schema=DUE)
    found = expected_copies(lambda: table.to_batches(max_chunksize=batch), _NoEarlier(), CORPUS)
    first: dict[tuple[int | None, str], int] = {}
    leaders: list[int] = []
    expected = []
    for number, item in enumerate(items):
        if not item[0] or first.setdefault(item, number) == number:
            leaders.append(number)
            expected.append(None)
        else:
            expected.append(first[item])
    assert found.is_copy.tolist() == [one is not None for one in expected]
    assert found.is_repeated.all()
    places = found.told(0, len(found), run_id="0007", shard_items=3)["leader"].to_pylist()
    assert [place["run_id"] for place in places] == ["0007"] * len(found)
    assert [leaders[place["shard"] * 3 + place["row"]] for place in places] == [
        one for one in expected if one is not None
    ]


CORPUS = ResolvedCorpus(id="c", uri="s3://b", include=())


class _NoEarlier:
    run_ids = ()

    def rows(self) -> Any:
        return iter(())
