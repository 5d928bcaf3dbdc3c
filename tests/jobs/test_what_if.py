"""What other policies would route, and that it is what is routed when they apply."""

import json
from pathlib import Path

import pytest

from tests.jobs.drawn_runs import TASK, answer, commit_run, job
from tests.jobs.test_promises import CLASSES, predicted, review
from winnow_annotation.policies import Policy
from winnow_jobs.review import route_run
from winnow_jobs.what_if import what_if
from winnow_storage.errors import UsageError


def test_what_if__the_number_shown_is_the_number_routed(tmp_path: Path) -> None:
    resolved, runs = job(tmp_path, review(calibrate=400, audit=0.05))
    keys, probabilities, truth = predicted(2000, 1)
    first = commit_run(runs, resolved, keys, probabilities, CLASSES)
    route_run(runs.store, first)
    answer(runs, "0001", truth, ["calibrate"])
    wanted = resolved.model_copy(update={"review": review(Policy(max_error=0.1), calibrate=50, audit=0.05, budget=300)})
    keys, probabilities, _ = predicted(3000, 2)
    second = commit_run(runs, wanted, keys, probabilities, CLASSES)
    before = sorted(info.key for info in runs.store.walk(""))
    asked = wanted.model_copy(update={"review": review(calibrate=50, audit=0.05, budget=300)})
    record = what_if(asked, runs, sweep={"max_error": [0.02, 0.1], "min_p_ok": [0.9]})
    assert sorted(info.key for info in runs.store.walk("")) == before  # nothing is written
    assert record["run_id"] == "0002"
    own, strict, chosen, uncalibrated = record["variants"]
    assert own["changed"] == {}
    assert strict["coverage"] < own["coverage"] < chosen["coverage"]
    assert uncalibrated["coverage"] == 0.0
    low, high = chosen["error_interval"]
    assert low <= chosen["expected_error"] <= high
    routed = route_run(runs.store, second)
    assert routed["routes"][TASK] == chosen["routes"]
    assert routed["selected"] == chosen["to_people_of_all_tasks"]
    assert routed["promises"][0]["digest"] == chosen["promises"][0]["digest"]
    assert json.loads(json.dumps(record)) == record


def test_what_if__errors_say_what_to_do(tmp_path: Path) -> None:
    resolved, runs = job(tmp_path, review())
    with pytest.raises(UsageError, match="no finished run"):
        what_if(resolved, runs)
    keys, probabilities, _ = predicted(20, 1)
    commit_run(runs, resolved, keys, probabilities, CLASSES)
    with pytest.raises(UsageError, match="task 'kidn' has no policy"):
        what_if(resolved, runs, tasks=["kidn"])
    for key, value in (("max_error", 2.0), ("max_loss", 0.1), ("min_recall", 0.9)):
        with pytest.raises(UsageError, match=key):
            what_if(resolved, runs, sweep={key: [value]})
