"""What the report shows of promises: supported ones with evidence, audit and curve, and those that are not."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.jobs.drawn_runs import TASK, answer, commit_run, job
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_jobs.audit import audit_records
from winnow_jobs.report import write_report
from winnow_jobs.report_promises import promise_views
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review import route_run
from winnow_jobs.runs import Runs
from winnow_storage.ledger import open_ledger

CLASSES = ("a", "b", "c")


def night(resolved: ResolvedSpec, runs: Runs) -> tuple[dict[str, Any], dict[str, str]]:
    """A closed run of 400 predictions, of which the unsure ones are sometimes wrong: its review, and the truth."""
    number = len(runs.ids()) + 1
    rng = np.random.default_rng(number)
    probabilities = rng.dirichlet([0.1, 0.1, 0.1], 400)
    keys = [f"{number}-{place:04d}.jpg" for place in range(400)]
    truth = {key: CLASSES[rng.choice(3, p=one)] for key, one in zip(keys, probabilities, strict=True)}
    plan = commit_run(runs, resolved, keys, probabilities, CLASSES)
    review = route_run(runs.store, plan)
    runs.close(plan.run_id, {"run_id": plan.run_id, "state": "done", "review": review, "outcomes": {}, "shards": 1})
    return review, truth


@pytest.mark.parametrize(
    "policy",
    [Policy(max_error=0.1), Policy(max_error=0.1, classes={"a": {"max_error": 0.2}})],
)
def test_promise_views__with_evidence_audit_and_curve(tmp_path: Path, policy: Policy) -> None:
    resolved, runs = job(tmp_path, ReviewSpec(policies={TASK: policy}, budget=300, calibrate=200, audit=0.3))
    review, truth = night(resolved, runs)
    first = promise_views(runs.plan("0001"), runs, review, [])
    assert [(one["threshold"], one["chart"], one["audit"]) for one in first] == [(None, None, None)] * len(first)
    assert first[0]["claim"] == "at most 10.00% of the accepted is wrong, with 90% certainty"
    assert first[0]["missing"] > 0
    answer(runs, "0001", truth, ["calibrate"])

    review, truth = night(resolved, runs)
    audited = answer(runs, "0002", truth, ["audit"])
    answer(runs, "0002", truth, ["calibrate"])  # draws of the run itself are no evidence for what it promised
    views = promise_views(runs.plan("0002"), runs, review, audit_records(resolved, runs))
    accepted = review["routes"][TASK]["accept"] + review["routes"][TASK]["audit"]
    assert [one["rule"] for one in views] == list(policy.rules())
    assert {one["routed"]["accepted"] for one in views} == {accepted}
    assert sum(one["audit"]["answered"] for one in views) == audited > 0
    assert (views[0]["runs"], views[0]["routed"]["predictions"]) == ("0001", 400)
    for one in views:
        seen = one["evidence"]
        (dot,) = ElementTree.fromstring(one["chart"]).iter("circle")
        share = seen["accepted"] / seen["labels"]
        assert str(dot[0].text).startswith(f"{share:.1%} of the draws are accepted")
        assert f"upper bound {seen['bound']:.2%}" in str(dot[0].text)

    with open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        for run_id in ("0001", "0002"):
            write_report(resolved, runs, ledger, run_id=run_id, truth=None, out=tmp_path / f"{run_id}.html")
    page = (tmp_path / "0001.html").read_text()
    assert "cannot be promised" in page
    page = (tmp_path / "0002.html").read_text()
    assert f"{accepted} of 400 predictions of this run" in page
    assert f"{views[0]['audit']['answered']} of the accepted were looked at, blind" in page
    assert "200 blind, uniform random draws of run 0001" in page


def test_promise_views__of_recall_have_no_curve(tmp_path: Path) -> None:
    policy = Policy(min_recall=0.6, harmful=["c"])
    resolved, runs = job(tmp_path, ReviewSpec(policies={TASK: policy}, budget=300, calibrate=200))
    _, truth = night(resolved, runs)
    answer(runs, "0001", truth, ["calibrate"])
    review, _ = night(resolved, runs)
    (one,) = promise_views(runs.plan("0002"), runs, review, [])
    assert one["threshold"] is not None
    assert one["chart"] is None
    assert one["claim"].startswith("at least 60.00% of what is harmful is not let through")
