"""Where the answer of an item comes from: found without reading the rest, and true to what stands in the bucket."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.drawn_runs import answer
from tests.jobs.explain.explained_job import MODEL, TASK, ExplainedJob, add_files
from tests.jobs.histories import DAY_0
from winnow_jobs.cli import main
from winnow_jobs.consensus.further import settle
from winnow_jobs.explain.record import Asked, explain
from winnow_jobs.explain.told import lines
from winnow_jobs.learn import Learned, learn
from winnow_jobs.people import sync_ledger
from winnow_jobs.runs import Runs
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.ids import digest_bytes, item_id
from winnow_storage.ledger import open_ledger
from winnow_storage.schemas import Outcome

REVIEW = {"policies": {TASK: {"max_error": 0.1}}, "calibrate": 130, "budget": 200}
KEYS = [f"{number // 10:02d}/{number:04d}.jpg" for number in range(160)]


def scored(key: str) -> float:
    """Higher for later keys, so that it can be foreseen what is accepted."""
    return 0.3 + 0.69 * int(key[-8:-4]) / 1000


def truth(key: str) -> str:
    return "tin" if int(key[-8:-4]) >= 40 else "jar"


def told(job: ExplainedJob, item: str, **asked: Any) -> dict[str, Any]:
    return explain(job.runs, Asked(item, **asked), ledger=None, server=None)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> ExplainedJob:
    """Two nights: what was drawn in the first was answered and taught the second one's calibrator and promise."""
    job = ExplainedJob(tmp_path_factory.mktemp("explained"), REVIEW)
    add_files(job.folder, *KEYS)
    job.run(scored, outcomes={KEYS[5]: Outcome.UNREADABLE})
    answer(job.runs, "0001", {key: truth(key) for key in KEYS}, ["calibrate"])
    learned = learn(job.spec, job.runs, tasks=[TASK], truth=None, at=DAY_0 + timedelta(days=1.7))[TASK]
    assert isinstance(learned, Learned), learned
    settle(job.spec, job.runs, tasks=[TASK], at=DAY_0 + timedelta(days=1.8))
    add_files(job.folder, "99/0990.jpg", "99/0000.jpg")
    job.spec = job.spec.model_copy(update={"review": job.spec.review.model_copy(update={"calibrate": 0})})
    job.run(scored)
    ledger = open_ledger(f"sqlite:///{job.folder / 'ledger.db'}")
    sync_ledger(job.runs, ledger)
    ledger.mark_pushed({one.dedupe_key: 17 for one in ledger.review_tasks(output=job.runs.store.root.uri)}, 3)
    return job


def drawn_key(job: ExplainedJob, run_id: str = "0001", of: Sequence[str] = KEYS) -> str:
    """An item of a run that was drawn, answered, and right."""
    from winnow_jobs.routes import iter_sent

    rows = iter_sent(job.runs.store, run_id, ["key", "route"])
    return max(row["key"] for row in rows if row["route"] == "calibrate" and row["key"] in of)


def test_explain__a_drawn_item_from_its_object_to_what_it_taught(answered: ExplainedJob) -> None:
    key = drawn_key(answered)
    record = told(answered, key)
    item, row = record["item"], record["row"]
    assert (item["key"], item["item_id"], item["state"]) == (key, item_id("shelves", key), "current")
    assert item["version"] == item["listed_version"] == row["version"]
    assert item["uri"] == (answered.folder / "corpus" / key).as_uri()
    assert (row["outcome"], row["content_sha256"], row["width"], row["run_id"]) == ("done", "c0ffee", 8, "0001")
    (task,) = record["tasks"]
    model = task["model"]
    assert (model["reference"], model["digest"]) == ("models/kind@prod", digest_bytes(MODEL))
    assert (model["name"], model["version"], model["stages"]) == ("kind", "2", ["prod"])
    assert model["card"] == {"architecture": "builtin/kind", "parent": "kind@1", "trained_on": "shelves of 2025"}
    assert task["prediction"]["score"] == pytest.approx(scored(key))
    assert (task["prediction"]["preproc"], task["prediction"]["score_kind"]) == ("p1", "softmax")
    assert (task["route"]["route"], task["route"]["reason"]) == ("calibrate", "calibrate_draw")
    assert task["route"]["inclusion"] == pytest.approx(130 / 159)
    assert (task["calibrator"], task["promise"]["threshold"]) == (None, None)  # there were no labels yet
    (asked,) = task["asked"]
    assert (asked["purpose"], asked["dedupe_key"], asked["state"]) == ("calibrate", task["route"]["dedupe_key"], None)
    (label,) = task["labels"]
    assert (label["annotator"], label["value"], label["stands"]) == ("ann", {"label": "tin"}, True)
    assert (label["config_hash"], label["shown"], label["superseded_by"]) == ("c", None, None)
    assert task["consensus"]["formed_of_present"]
    assert task["decision"]["word"] == "people"
    assert task["decision"]["answer"] == {"label": "tin"}
    assert [one["kind"] for one in task["learnt_by"]] == ["calibrator", "promise"]
    assert task["learnt_by"][0]["fitted_on"]["runs"] == ["0001"]
    assert task["learnt_by"][1]["run_id"] == "0002"
    assert json.loads(json.dumps(record)) == record


def test_explain__an_accepted_item_by_its_promise_and_calibrator(answered: ExplainedJob) -> None:
    (task,) = told(answered, "99/0990.jpg")["tasks"]
    assert task["promise"]["threshold"] is not None, task["promise"]["why"]
    assert task["calibrator"]["calibrator"] == task["route"]["calibrator"]
    assert task["calibrator"]["fitted_on"]["labels"] == 130
    assert task["prediction"]["p_ok"] is None  # the row is final; what was routed by stands in the route
    assert task["route"]["p_ok"] is not None
    assert (task["route"]["reason"], task["decision"]["word"]) == ("promised", "model")
    assert task["learnt_by"] == []
    (other,) = told(answered, "99/0000.jpg")["tasks"]
    assert (other["route"]["reason"], other["decision"]["word"]) == ("below_promise", "waiting")


def test_explain__what_was_answered_before_a_model_ran_did_not_teach_its_calibrator(tmp_path: Path) -> None:
    job = ExplainedJob(tmp_path, REVIEW | {"calibrate": 260, "budget": 400})
    add_files(job.folder, *KEYS)
    job.run(scored)
    answer(job.runs, "0001", {key: truth(key) for key in KEYS}, ["calibrate"])
    early = drawn_key(job)
    retrained = job.spec.task("kind").model_copy(update={"revision": 2})
    job.spec = job.spec.model_copy(update={"tasks": (retrained,)})
    more = [f"98/{number:04d}.jpg" for number in range(240)]
    add_files(job.folder, *more)
    job.run(scored)
    answer(job.runs, "0002", {key: truth(key) for key in (*KEYS, *more)}, ["calibrate"])
    learned = learn(job.spec, job.runs, tasks=["kind"], truth=None, at=DAY_0 + timedelta(days=2.7))["kind"]
    assert isinstance(learned, Learned), learned
    assert learned.calibrator.fitted_on.runs == ("0002",)
    add_files(job.folder, "99/0990.jpg")
    job.run(scored)
    for key, taught in ((early, []), (drawn_key(job, "0002", of=more), ["calibrator", "promise"])):
        (task,) = told(job, key)["tasks"]
        assert [one["kind"] for one in task["learnt_by"]] == taught


def test_explain__by_every_name(answered: ExplainedJob) -> None:
    key = KEYS[42]
    record = told(answered, key)
    place = answered.folder / "corpus" / key
    for name in (item_id("shelves", key), place.as_uri(), str(place)):
        assert told(answered, name) == record
    assert told(answered, key, task=TASK, run_id="0001") == record
    with pytest.raises(UsageError, match="for a task 'text'"):
        told(answered, key, task="text")
    with pytest.raises(UsageError, match=r"run 0002 did not take 04/0042\.jpg"):
        told(answered, key, run_id="0002")


def test_explain__reads_one_shard_of_a_run(answered: ExplainedJob) -> None:
    class Counting:
        """A store that says which objects were read."""

        def __init__(self, store: Any) -> None:
            self._store = store
            self.read: Counter[str] = Counter()

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._store, name)
            if name not in ("get", "get_range", "read"):
                return found

            def counted(key: str, *arguments: Any, **more: Any) -> Any:
                self.read[key] += 1
                return found(key, *arguments, **more)

            return counted

    store = Counting(answered.runs.store)
    explain(Runs(store), Asked(KEYS[42]), ledger=None, server=None)  # type: ignore[arg-type]
    results = {key for key in store.read if "/results/" in key}
    assert results == {"runs/0001/results/00000010.parquet"}


def test_explain__an_item_without_a_prediction(answered: ExplainedJob) -> None:
    record = told(answered, KEYS[5])
    assert record["row"]["outcome"] == "unreadable"
    (task,) = record["tasks"]
    assert (task["route"], task["prediction"]) == (None, None)
    assert task["decision"] == {"word": "nothing", "answer": None, "why": "unreadable: cut off"}


def test_explain__near_names_and_no_job(answered: ExplainedJob, tmp_path: Path) -> None:
    for name, near in (("0042.jpg", "04/0042.jpg"), ("04/0042.jpgg", "04/0042.jpg"), ("0" * 32, "")):
        with pytest.raises(UsageError, match="no item of shelves is") as raised:
            told(answered, name)
        assert f"did you mean {near}" in str(raised.value.hint) if near else raised.value.hint is not None
        assert "162 items when run 0002 listed it" in raised.value.message
    with pytest.raises(UsageError, match="has no runs yet"):
        told(ExplainedJob(tmp_path, REVIEW), "a.jpg")


def test_explain__what_was_held_and_competed_again(tmp_path: Path) -> None:
    job = ExplainedJob(tmp_path, {"policies": {TASK: {}}, "budget": 2, "select": {"diverse": False, "by": "score"}})
    keys = [f"{number:04d}.jpg" for number in range(6)]
    add_files(tmp_path, *keys)
    job.run(scored)
    add_files(tmp_path, "0900.jpg")
    job.run(scored)
    found = {key: told(job, key)["tasks"][0] for key in keys}
    decided = {key: (task["route"]["run_id"], task["decision"]["word"]) for key, task in found.items()}
    assert decided == {
        keys[0]: ("0001", "waiting"), keys[1]: ("0001", "waiting"),
        keys[2]: ("0002", "waiting"), keys[3]: ("0002", "waiting"),
        keys[4]: ("0002", "held"), keys[5]: ("0002", "held"),
    }  # fmt: skip
    assert {task["run_id"] for task in found.values()} == {"0001"}  # which predicted all of them
    assert [one["run_id"] for one in found[keys[2]]["asked"]] == ["0002"]
    assert any("held before, it competed again in run 0002" in line for line in lines(told(job, keys[2])))
    assert told(job, keys[2], run_id="0001")["tasks"][0]["decision"]["word"] == "held"


def test_explain__pending_changed_and_gone(tmp_path: Path) -> None:
    job = ExplainedJob(tmp_path, {})
    add_files(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    job.run(scored_one)
    (tmp_path / "corpus/a.jpg").unlink()
    (tmp_path / "corpus/b.jpg").write_bytes(b"changed")
    add_files(tmp_path, "d.jpg")
    (tmp_path / "corpus/b.jpg").write_bytes(b"another size")
    job.begin()
    states = {key: told(job, f"{key}.jpg")["item"]["state"] for key in "abcd"}
    assert states == {"a": "gone", "b": "changed", "c": "current", "d": "pending"}
    assert told(job, item_id("shelves", "a.jpg"))["item"]["key"] == "a.jpg"
    waiting = told(job, "d.jpg")
    assert (waiting["row"], waiting["runs"][0]["shard"], waiting["runs"][0]["committed"]) == (None, 0, False)
    assert waiting["tasks"][0]["decision"]["why"] == "no run has committed it yet"
    assert any("planned    in shard 0 of run 0002" in line for line in lines(waiting))
    changed = told(job, "b.jpg")
    assert changed["item"]["version"] == changed["row"]["version"] != changed["item"]["listed_version"]
    assert told(job, "c.jpg")["tasks"][0]["decision"]["word"] == "model"  # there is no policy


def scored_one(_key: str) -> float:
    return 0.75


def test_explain__says_what_is_damaged_and_tells_the_rest(tmp_path: Path) -> None:
    job = ExplainedJob(tmp_path, {})
    add_files(tmp_path, "a.jpg")
    job.run(scored_one)
    place = tmp_path / "out/runs/0001/results/00000000.parquet"
    place.write_bytes(place.read_bytes()[:-20])
    record = told(job, "a.jpg")
    (text,) = record["damaged"]
    assert "runs/0001/results/00000000.parquet is not a shard that Winnow wrote" in text
    assert (record["item"]["state"], record["runs"][0]["shard"]) == ("damaged", 0)
    assert record["runs"][0]["routes"] == {"kind": "accept (no_policy)"}
    assert record["tasks"][0]["decision"]["why"] == "its row cannot be read"
    assert not any("planned" in line for line in lines(record))
    (tmp_path / "out/labels").mkdir()
    (tmp_path / "out/labels/x.parquet").write_bytes(b"no Parquet")
    with pytest.raises(StoreError, match=r"labels/x\.parquet"):
        told(job, "a.jpg")


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_winnow_explain__text_and_record(answered: ExplainedJob, capsys: pytest.CaptureFixture[str]) -> None:
    key = drawn_key(answered)
    code, out, _ = run_cli(capsys, "explain", answered.folder / "job.yaml", key, "--json")
    record = json.loads(out)
    (asked,) = record["tasks"][0]["asked"]
    assert (code, asked["state"], asked["link"]) == (0, "pushed", "http://127.0.0.1:8080/projects/3/data?task=17")
    code, out, _ = run_cli(capsys, "explain", answered.folder / "job.yaml", key)
    said = [line.strip().split(maxsplit=1) for line in out.splitlines()]
    named = dict(said)
    assert list(named) == [
        f"{key}:", "object", "read", "row", "kind", "model", "predicted", "route", "promise", "asked", "answer",
        "consensus", "now", "taught",
    ]  # fmt: skip
    assert named["model"].endswith("= kind@2, now prod; parent kind@1; trained on shelves of 2025")
    assert named["read"].endswith("sha256 c0ffee, jpeg, 8 x 6 px upright")
    assert named["now"].startswith("people: tin; consensus of ann: ")
    assert "tin (created, calibrate, blind, interface c)" in named["answer"]
    code, out, _ = run_cli(capsys, "explain", answered.folder / "job.yaml", "nothing", "--json")
    assert (code, "no item of shelves is 'nothing'" in json.loads(out)["error"]) == (2, True)
