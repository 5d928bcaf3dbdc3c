"""`winnow verify` over one real run: sound as it was left, and every damage to it found in the right object."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.winnow import photographs, winnow, write_spec
from tests.jobs.histories import add_run, output_runs, spec
from tests.jobs.verify.damages import (
    DAMAGES,
    OTHER,
    RESULTS,
    ROUTES,
    SEAL,
    SHARD,
    SUMMARY,
    Damage,
    rewrite,
    set_value,
    truncate,
)
from winnow_annotation.pull import _put
from winnow_jobs.cli import main
from winnow_jobs.events import Event, Progress
from winnow_jobs.run import Tally, finish
from winnow_jobs.runs import Runs
from winnow_jobs.verify.rows import Expected
from winnow_jobs.verify.run import RunCheck, lost_runs, verify_run
from winnow_jobs.verify.shard import check_shard
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.ledger import open_ledger
from winnow_storage.records import Label
from winnow_storage.uri import parse

POLICIES = "review: {policies: {kind: {uncalibrated: review}}, budget: 5, audit: 0.2}\n"


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that ran once: 37 images, one of them broken, in 5 shards; nobody changes it."""
    folder = tmp_path_factory.mktemp("night")
    photos = photographs(folder / "photos", 36)
    (folder / "photos/broken.jpg").write_bytes(photos[1].read_bytes()[:300])
    ended = winnow("run", write_spec(folder, more=POLICIES), "--json", cwd=folder)
    assert ended.code == 3, ended.err
    assert ended.record["outcomes"]["unreadable"] == 1
    return folder


@pytest.fixture
def out(night: Path, tmp_path: Path) -> Path:
    """A copy of its output, to damage. A run that was moved is as sound as before."""
    return Path(shutil.copytree(night / "out", tmp_path / "out"))


def verified(out: Path, run_id: str = "0001") -> RunCheck:
    return verify_run(Runs(open_store(parse(str(out)))), run_id)


def test_verify__a_sound_run(out: Path) -> None:
    check = verified(out)
    assert check.findings == []
    assert check.notes == []
    record = check.record()
    assert (record["state"], record["sound"], record["shards"], record["shards_committed"]) == ("partial", True, 5, 5)
    assert (record["items"], record["rows"]) == (37, 37)
    assert record["outcomes"] == {"done": 36, "unreadable": 1}


def test_verify__tells_how_far_it_is_from_the_beginning(out: Path) -> None:
    told: list[Event] = []
    verify_run(Runs(open_store(parse(str(out)))), "0001", told.append)
    seen = [(event.items_now, event.shards) for event in told if isinstance(event, Progress)]
    assert (seen[0], seen[-1], len(seen)) == ((0, 0), (37, 5), 6)  # a rate begins where nothing is seen yet


def test_verify__tells_nothing_of_a_run_without_items(tmp_path: Path) -> None:
    runs, told = output_runs(tmp_path), list[Event]()
    add_run(runs, spec(tmp_path), [])
    verify_run(runs, "0001", told.append)
    assert told == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_verify__finds_every_damage(damage: Damage, out: Path) -> None:
    keys = damage.keys(out)
    damage.apply(out)
    check = verified(out)
    assert {finding.key for finding in check.findings} == keys, check.findings
    said = [finding.what for finding in check.findings]
    assert any(damage.what in what for what in said), said
    assert all(finding.cause and finding.next for finding in check.findings)


def test_verify__no_flipped_bit_of_the_pages_changes_a_value_unfound(out: Path) -> None:
    store = open_store(parse(str(out)))
    plan = Runs(store).plan("0001")
    expected = Expected("0001", 1, "test", {task.name: task.model.digest for task in plan.tasks()}, None)
    data, sound = (out / SHARD).read_bytes(), pq.read_table(out / SHARD)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    found = 0
    for at in range(4, footer, 37):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        (out / SHARD).write_bytes(flipped)
        info = store.info(SHARD)
        assert info is not None
        if check_shard(store, info, expected).problems:
            found += 1
        else:  # what pages say of themselves beside their values
            assert pq.read_table(out / SHARD).equals(sound)
    assert found > 50


def test_verify__an_open_run_is_no_finding(out: Path) -> None:
    for key in (SUMMARY, ROUTES, SHARD, OTHER):
        (out / key).unlink()
    check = verified(out)
    assert (check.findings, check.state, check.results.shards) == ([], "open", 3)
    truncate(out / RESULTS / "00000000.parquet")
    found = verified(out).findings
    assert [finding.key for finding in found] == [f"{RESULTS}/00000000.parquet"]
    assert "winnow resume 0001" in found[0].next


def test_verify__a_run_that_was_closed_without_its_shards(out: Path) -> None:
    for shard in (0, 1, 3):
        (out / RESULTS / f"0000000{shard}.parquet").unlink()
    check = verified(out)
    assert [(finding.key, finding.what) for finding in check.findings] == [
        (
            f"{RESULTS}/00000000.parquet",
            "it is not there, nor are the others up to shard 1, although the run is closed",
        ),
        (f"{RESULTS}/00000003.parquet", "it is not there, although the run is closed"),
    ]
    assert check.notes == ["its routes and summary are held against the shards once those are sound"]


def abandon_by_hand(out: Path) -> None:
    (out / SUMMARY).write_text(json.dumps({"job": "test", "run_id": "0001", "state": "abandoned"}))


def test_verify__an_abandoned_run_without_a_seal_may_lack_shards_and_the_routes_of_late_ones(out: Path) -> None:
    abandon_by_hand(out)
    (out / SEAL).unlink()  # older versions put none
    routed = pq.read_table(out / ROUTES)
    pq.write_table(routed.slice(0, routed.num_rows - 3), out / ROUTES)
    check = verified(out)
    assert (check.state, check.findings) == ("abandoned", [])
    assert check.notes == ["3 predictions were committed after the run was abandoned: nobody sees them"]
    (out / SHARD).unlink()
    found = verified(out).findings
    assert [finding.key for finding in found] == [ROUTES]
    assert "routes of no prediction" in found[0].what


def test_verify__an_abandoned_run_has_all_that_its_seal_names(out: Path) -> None:
    abandon_by_hand(out)
    assert (verified(out).findings, verified(out).notes) == ([], [])
    (out / SHARD).unlink()
    check = verified(out)
    assert [finding.key for finding in check.findings] == [SHARD]
    assert check.notes == ["its routes and summary are held against the shards once those are sound"]


def test_verify__a_seal_that_is_damaged_or_leaves_out_shards(out: Path) -> None:
    (out / SEAL).write_text("[[0,3]]")
    found = verified(out).findings
    assert (found[0].key, found[0].what) == (
        SEAL,
        "it names 4 shards where the plan has 5, although the run is closed",
    )
    (out / SEAL).write_text("[[0,")
    assert [finding.key for finding in verified(out).findings] == [SEAL]


def test_verify__images_that_were_replaced_after_the_listing_are_no_finding(night: Path, tmp_path: Path) -> None:
    """As a worker leaves it: rows and routes of the version that was read."""
    for count, said in ((1, "1 image was"), (3, "3 images were")):
        place = Path(shutil.copytree(night / "out", tmp_path / f"out-{count}"))
        (place / SUMMARY).unlink()
        (place / ROUTES).unlink()
        for row in range(count):
            rewrite(SHARD, set_value("version", "newer", at=row))(place)
        runs = Runs(open_store(parse(str(place))))
        tally = Tally()
        for _, receipt in runs.receipts("0001"):
            tally.add(receipt, now=False)
        finish(runs, runs.plan("0001"), tally, 1.0)
        check = verified(place)
        assert check.findings == []
        assert check.notes == [f"{said} replaced between the listing and the reading"]
        assert check.record()["sound"]


def test_verify__another_bucket(out: Path, s3_bucket: str) -> None:
    folder, bucket = open_store(parse(str(out))), open_store(parse(f"{s3_bucket}/job"))
    for info in folder.walk():
        bucket.put(info.key, folder.get(info.key))
    assert verify_run(Runs(bucket), "0001").findings == []
    bucket.put(SHARD, folder.get(OTHER))
    bucket.put(f"{RESULTS}/", b"")  # what some tools put there to show a folder
    assert [finding.key for finding in verify_run(Runs(bucket), "0001").findings] == [SHARD]


def test_lost_runs__those_between_the_others() -> None:
    assert lost_runs([]) == []
    assert lost_runs(["0003", "0004"]) == []
    assert [check.run_id for check in lost_runs(["0002", "0003", "0006"])] == ["0004", "0005"]
    assert [finding.key for finding in lost_runs(["0001", "0003"])[0].findings] == ["runs/0002/plan.json"]


# the command


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["verify", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def spec_of(tmp_path: Path, out: Path) -> Path:
    return write_spec(tmp_path, output=out, more=POLICIES)


def test_command__sound_findings_and_what_cannot_be_reached(
    capsys: pytest.CaptureFixture[str], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(tmp_path, out)
    code, said, _ = command(capsys, "0001", spec)
    assert code == 0
    assert "0001  partial  5/5     37/37  36 done, 1 unreadable  sound" in said
    assert "ledger: 1 run indexed" in said
    truncate(out / SHARD)
    code, said, _ = command(capsys, "--all", "--output", out, "--no-index")
    assert code == 1
    assert f"{SHARD}\n  it cannot be read" in said
    assert "  likely: " in said
    assert "  next: restore it from a backup" in said
    assert "ledger" not in said
    code, said, err = command(capsys, "0009", spec)
    assert (code, said) == (2, "")
    assert "has no run 0009" in err
    assert f"winnow verify --all --output {out}" in err
    code, said, err = command(capsys, "--all", "--output", tmp_path / "nowhere")
    assert (code, said) == (2, "")
    assert f"there are no runs at {tmp_path}/nowhere" in err
    unreachable = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1", "AWS_ACCESS_KEY_ID": "a",
                   "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    for name, value in unreachable.items():
        monkeypatch.setenv(name, value)
    code, said, err = command(capsys, "0001", "--output", "s3://bucket/out")
    assert (code, said) == (4, "")
    assert "127.0.0.1:9" in err


def test_command__which_runs_and_where(capsys: pytest.CaptureFixture[str], out: Path, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, out)
    for wrong in ([], ["--all"], ["--all", "0001", spec], ["0001", spec, "--output", out], [spec]):
        code, _, err = command(capsys, *wrong)
        assert code == 2, wrong
        assert "winnow verify" in err
    code, _, err = command(capsys, "0001")
    assert code == 2
    assert "the ledger knows no run 0001" in err
    assert "winnow verify 0001 SPEC" in err


def test_command__an_open_run(capsys: pytest.CaptureFixture[str], out: Path) -> None:
    for key in (SUMMARY, ROUTES, SHARD):
        (out / key).unlink()
    code, said, _ = command(capsys, "0001", "--output", out, "--no-index")
    assert code == 0
    assert "run 0001: open, 4 of 5 shards committed, all of them sound" in said


def test_command__a_lost_ledger_is_rebuilt(
    capsys: pytest.CaptureFixture[str], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, url = open_store(parse(str(out))), f"sqlite:///{tmp_path / 'ledger.db'}"
    spec = spec_of(tmp_path, out)
    assert command(capsys, "--all", spec)[0] == 0
    with open_ledger(url) as ledger:
        tasks = ledger.review_tasks(output=store.root.uri)
        events = pull_some(store, [task.dedupe_key for task in tasks[:2]])
        ledger.append_labels(events)
        before = ledger.runs(), tasks, ledger.label_counts("test"), ledger.live_annotations("http://ls", 3)
        assert before[2] == {"kind": 1}
        assert len(tasks) == 5
    (tmp_path / "ledger.db").unlink()
    code, said, _ = command(capsys, "--all", spec, "--json")
    assert code == 0
    indexed = json.loads(said)["indexed"]
    assert (indexed["runs"], indexed["new_review_tasks"], indexed["new_labels"]) == (1, 5, 4)
    assert indexed["not_pushed"] == 5
    with open_ledger(url) as ledger:
        after = (
            ledger.runs(),
            ledger.review_tasks(output=store.root.uri),
            ledger.label_counts("test"),
            ledger.live_annotations("http://ls", 3),
        )
        assert after == before
        assert {label.label_id for label in ledger.labels("test")} == {event.label_id for event in events}
    code, said, _ = command(capsys, "--all", spec, "--json")
    assert json.loads(said)["indexed"]["new_labels"] == 0


def test_command__a_ledger_that_fails_hides_no_finding(
    capsys: pytest.CaptureFixture[str], out: Path, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path, output=out, more=POLICIES)
    (tmp_path / "ledger.db").write_text("no database at all, " * 100)
    code, said, err = command(capsys, "0001", spec)
    assert code == 4
    assert "sound" in said
    assert "the ledger was not brought up to date" in err
    truncate(out / SHARD)
    code, said, _ = command(capsys, "0001", spec, "--json")
    record: dict[str, Any] = json.loads(said)
    assert code == 1
    assert record["index_error"]["error"]
    assert record["runs"][0]["findings"][0]["key"] == SHARD


def test_command__what_cannot_be_trusted_is_not_indexed(
    capsys: pytest.CaptureFixture[str], out: Path, tmp_path: Path
) -> None:
    truncate(out / ROUTES)
    (out / "labels").mkdir()
    (out / "labels/broken.parquet").write_bytes(b"PAR1")
    code, said, _ = command(capsys, "--all", spec_of(tmp_path, out), "--json")
    record = json.loads(said)
    assert code == 1
    assert record["indexed"]["left_out"] == ["0001"]
    assert [one["key"] for one in record["labels"]["findings"]] == ["labels/broken.parquet"]


def pull_some(store: BlobStore, dedupe_keys: list[str]) -> list[Label]:
    """Answers as a pull leaves them in the bucket: one that was changed, one that was deleted, in three objects."""
    first = Label(
        label_id="a1", event="created", dedupe_key=dedupe_keys[0], job="test", task="kind", operator="classify",
        item_id="i1", version="v", key="0000.png", uri="file:///0000.png", purpose="review", run_id="0001",
        server="http://ls", annotation_id="1", project_id=3, ls_task_id=1, annotator="ann@example.org",
        created_at=datetime(2026, 1, 1, tzinfo=UTC), updated_at=datetime(2026, 1, 1, tzinfo=UTC),
        was_cancelled=False, lead_time_s=1.5, value='{"label":"a"}', raw="[]", config_hash="c", model="m", shown=None,
    )  # fmt: skip
    changed = replace(first, label_id="0b", event="updated", updated_at=datetime(2026, 1, 2, tzinfo=UTC), value="{}")
    second = replace(first, label_id="a2", annotation_id="2", dedupe_key=dedupe_keys[1])
    gone = replace(second, label_id="0a", event="deleted", updated_at=datetime(2026, 1, 3, tzinfo=UTC), value=None)
    for events in ([first, second], [changed], [gone], [gone, changed]):  # a crash may write events twice
        _put(events, store)
    return [first, second, changed, gone]
