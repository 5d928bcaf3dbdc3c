"""When a promise is supported no longer: after drift, while nobody looks, and by another model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.jobs.drawn_runs import LOOK, TASK, answer, commit_run, job
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_jobs import support
from winnow_jobs.commands.people import _show_status
from winnow_jobs.render import Screen
from winnow_jobs.report import write_report
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review import route_run
from winnow_jobs.runs import Runs
from winnow_jobs.support import newest_promises, support_alarms, support_records
from winnow_jobs.views import status_record
from winnow_storage.ledger import open_ledger
from winnow_workers.confidence import two_samples

CLASSES = ("a", "b", "c")
REVIEW = ReviewSpec(policies={TASK: Policy(max_error=0.1)}, budget=200, calibrate=150)


@pytest.fixture(autouse=True)
def _few_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for the limits here; so many as usual take a second a run."""
    monkeypatch.setattr(two_samples, "SHUFFLES", 599)
    monkeypatch.setattr(two_samples, "CLASS_SHUFFLES", 999)


class Nights:
    """Runs with vectors, closed as far as their promises are read."""

    def __init__(self, folder: Path) -> None:
        self.resolved: ResolvedSpec
        self.runs: Runs
        self.resolved, self.runs = job(folder, REVIEW, with_vectors=True)
        self.truth: dict[str, str] = {}

    def night(self, *, shift: float = 0.0, n: int = 400) -> dict[str, Any]:
        number = len(self.runs.ids()) + 1
        rng = np.random.default_rng(number)
        probabilities = rng.dirichlet([0.1, 0.1, 0.1], n)
        keys = [f"{number}-{place:04d}.jpg" for place in range(n)]
        truth = {key: CLASSES[int(one.argmax())] for key, one in zip(keys, probabilities, strict=True)}
        self.truth |= truth
        vectors = rng.normal(size=(n, 6)) + shift
        plan = commit_run(self.runs, self.resolved, keys, probabilities, CLASSES, vectors)
        record = route_run(self.runs.store, plan)
        self.runs.close(
            plan.run_id, {"run_id": plan.run_id, "state": "done", "review": record, "outcomes": {}, "shards": 1}
        )
        return record

    def answer(self, run_id: str) -> None:
        assert answer(self.runs, run_id, self.truth, ["calibrate"]) == 150


@pytest.fixture
def promised(tmp_path: Path) -> Nights:
    """Two nights; what the first one drew supports what the second one promises."""
    nights = Nights(tmp_path)
    nights.night()
    nights.answer("0001")
    assert nights.night()["promises"][0]["threshold"] is not None
    return nights


def test_support__none_is_missed_while_nothing_changed(promised: Nights) -> None:
    assert newest_promises(promised.runs)[0]["run_id"] == "0002"
    assert support_records(promised.resolved, promised.runs) == []


def test_support__after_drift_until_draws_since_show_it_again(promised: Nights) -> None:
    assert promised.night(shift=1.0)["drift_alarm"]["moved"] == ["inputs"]
    (one,) = support_records(promised.resolved, promised.runs)
    assert (one["task"], one["state"], one["because"], one["since"]) == (TASK, "unsupported", "drift", "0003")
    assert one["missing"] > 0
    (text,) = support_alarms([one])
    assert "kind: the promise of run 0003 is NO LONGER SUPPORTED: with run 0003 something moved (drift)" in text
    assert "the 0 answered draws of the runs from it on do not show it by themselves" in text
    promised.answer("0003")
    assert promised.night(shift=1.0)["drift_alarm"] is None
    assert support_records(promised.resolved, promised.runs) == []


def test_promise__what_was_drawn_before_something_moved_is_no_evidence(promised: Nights) -> None:
    promised.night(shift=1.0)
    record = promised.night(shift=1.0)
    (one,) = record["promises"]
    assert one["threshold"] is None
    assert (one["evidence"]["labels"], one["evidence"]["set_aside"]) == (0, 150)
    assert (
        "0 labels of uniform random draws, at least 22 are needed (of run 0003 and later: with it something"
        in one["why"]
    )
    assert "accept" not in record["routes"][TASK]  # held, and reviewed, until there are labels
    assert support_records(promised.resolved, promised.runs) == []  # nothing is promised, and that is said
    promised.answer("0003")
    again = promised.night(shift=1.0)
    assert again["promises"][0]["evidence"]["runs"] == ["0003", "0004"]
    assert again["routes"][TASK]["accept"] > 0


def test_support__by_another_model(promised: Nights, tmp_path: Path) -> None:
    later, _ = job(tmp_path, REVIEW, revision=2, with_vectors=True)
    (one,) = support_records(later, promised.runs)
    assert one["because"] == "model"
    without = later.model_copy(update={"review": ReviewSpec()})
    assert support_records(without, promised.runs) == []  # nobody promises it any more


def test_support__while_nobody_looks(promised: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "WATCHED_RUNS", 2)
    assert support_records(promised.resolved, promised.runs) == []  # the first of the two was answered
    promised.night()
    (one,) = support_records(promised.resolved, promised.runs)
    assert (one["because"], one["since"]) == ("unwatched", "0002")
    assert "nobody has answered a random draw of the last 2 runs (since run 0002)" in one["text"]
    promised.answer("0002")
    assert support_records(promised.resolved, promised.runs) == []
    assert LOOK  # the vectors are watched as well, and did not move


def test_people_see_what_moved_what_is_held_and_what_is_no_longer_supported(
    promised: Nights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promised.night(shift=1.0)
    with open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        record = status_record(promised.resolved, promised.runs, ledger)
        first, told = (
            write_report(promised.resolved, promised.runs, ledger, run_id=run_id, truth=None, out=tmp_path / run_id)
            for run_id in ("0001", "0003")
        )
    assert record["drift"]["drift_alarm"]["moved"] == ["inputs"]
    assert (record["held"], first["held"]["waiting"]) == (None, {TASK: 200})
    assert [one["because"] for one in record["support"]] == ["drift"]
    _show_status(Screen(as_json=False), record)
    out, err = capsys.readouterr()
    said = " ".join((out + err).split())
    assert "drift: run 0003: ALARM (inputs of look p 0.0017" in said
    assert "NO LONGER SUPPORTED" in said
    assert "look: the vectors of 400 images part from those of runs 0001 to 0002" in said
    assert "kind: 200 held predictions will compete again" in (tmp_path / "0001").read_text()
    assert "Compared with earlier runs" in (tmp_path / "0003").read_text()
    assert len(told["warnings"]) == 2
    assert (told["drift"]["run_id"], len(told["support"])) == ("0003", 1)
