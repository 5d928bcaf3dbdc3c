"""Does the contract suite find each broken rule, by the check that is about it, and no other one?"""

import os

import pytest

from tests.workers.contract import bad_operators
from winnow_jobs.operator_kind import check_kind
from winnow_workers.contract.findings import Finding
from winnow_workers.contract.suite import CHECKS, PROCESS, WHY, examine
from winnow_workers.contract.views import noise_views
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig

# operator -> the checks that it fails, and what one of them says
BROKEN = {
    "Good": (set(), ""),
    "Loose": ({"parameters"}, "takes a key that it does not know"),
    "Hidden": ({"parameters"}, "the parameter 'factor' changes from 1.0 to"),
    "Revision": ({"parameters"}, "revision is 0"),
    "Unopened": ({"opens"}, "KeyError: 'layer4.weight' (bad_operators.py:"),
    "Raises": ({"predicts"}, "an image of 1 x 1 px: ValueError: too small"),
    "Fewer": ({"predicts"}, "gave 1 predictions for 8 images"),
    "NoFields": ({"predicts"}, "fields() gives ['mean', 'label']"),
    "TakenField": ({"schema"}, "fields() names 'score'"),
    "LeftOut": ({"rows"}, "its prediction has the fields ['mean'], fields() says ['label', 'mean']"),
    "Unfitting": ({"rows"}, "image 0: Arrow"),
    "Huge": ({"rows"}, "its row takes 50000"),
    "NoEmptyBatch": ({"empty batch"}, "run([]) gives an error: ValueError"),
    "ByNeighbour": ({"batches", "bad image"}, "alone in a batch an image gets another prediction: image "),
    "Counting": (
        {"batches", "order", "begun ahead", "repeatable", "bad image"},
        "in another order an image gets another prediction",
    ),
    "OneAtATime": ({"begun ahead"}, "begun before another batch is waited for it says otherwise"),
    "Unseeded": ({"repeatable"}, "opened afresh it says otherwise"),
    "Improbable": ({"scores"}, "p_ok is 1"),
    "Uncalibrated": ({"scores"}, "p_ok 0.5 with the calibrator None"),
    "Unkind": ({"scores"}, "a score without a score_kind"),
    "Endless": ({"scores"}, "its score is inf"),
    "Wordy": ({"rows", "scores"}, "TypeError: "),
    "Writes": ({"pixels", "bad image"}, "it writes into the pixels"),
    "StopsTheRun": ({"bad image"}, "an image that it cannot process ends the run: StoreError"),
    "Sulks": ({"bad image"}, "a good one gets another prediction"),
    "NoDescription": ({"description"}, "preproc is ''"),
}


def examined(name: str, *, processes: bool = False) -> dict[str, Finding]:
    task = TaskConfig("task", f"{bad_operators.__name__}:{name}", resolve_model("builtin/none"), {})
    findings, _ = examine(task, noise_views(), leave_out=() if processes else (PROCESS,))
    return {finding.check: finding for finding in findings}


@pytest.mark.parametrize("name", list(BROKEN))
def test_examine__finds_what_is_not_kept(name: str) -> None:
    wanted, what = BROKEN[name]
    found = examined(name)
    assert list(found) == [*WHY, *(check.name for check in CHECKS if check.name != PROCESS)]
    assert {check for check, finding in found.items() if finding.ok is False} == wanted, found
    problems = [problem for finding in found.values() for problem in finding.problems]
    assert all(problem.what and problem.next for problem in problems)
    assert not what or any(what in problem.what for problem in problems), problems
    if wanted & {"opens", "predicts"}:
        assert {found[check.name].ok for check in CHECKS if check.name != PROCESS} == {None}


def test_examine__in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined("Good", processes=True)[PROCESS].ok
    (other,) = examined("OnlyHere", processes=True)[PROCESS].problems
    assert "another process says otherwise: image 0, label: " in other.what
    monkeypatch.setenv("WINNOW_TEST_HOME", str(os.getpid()))
    (gone,) = examined("Leaves", processes=True)[PROCESS].problems
    assert "in another process it fails: BrokenProcessPool" in gone.what


def test_check_kind__what_is_claimed_must_be_there() -> None:
    task = TaskConfig("task", f"{bad_operators.__name__}:Good", resolve_model("builtin/none"), {})
    _, bench = examine(task, noise_views(), leave_out=[check.name for check in CHECKS])
    assert bench is not None
    assert list(check_kind(bench, "classify", ["bright", "dark"])) == []
    (no_labels,) = check_kind(bench, "classify", [])
    assert "without labels" in no_labels.what
    assert "parameter labels" in no_labels.next
    (other,) = check_kind(bench, "detect", ["a"])
    assert "KeyError: 'boxes'" in other.what
    (no_vectors,) = check_kind(bench, "embed", [])
    assert "no field vector" in no_vectors.what
    (unknown,) = check_kind(bench, "embd", [])
    assert "reviewed_as is 'embd', which is none" in unknown.what
