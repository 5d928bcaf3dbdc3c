"""What does the ledger take from a bucket that was verified? Runs, review tasks and labels, where they can be read."""

from collections.abc import Sequence
from dataclasses import dataclass

from winnow_jobs.people import index_run
from winnow_jobs.routes import routes_key
from winnow_jobs.runs import Runs
from winnow_jobs.verify.run import UNKNOWN, RunCheck
from winnow_storage.ledger import Ledger
from winnow_storage.records import Label, PushState


@dataclass(frozen=True, slots=True)
class Indexed:
    """What the ledger has of an output now; of review tasks and labels, how many were new to it."""

    runs: int
    left_out: tuple[str, ...]  # runs whose plan, summary or routes cannot be trusted
    new_review_tasks: int
    new_labels: int
    not_pushed: int  # review tasks that the ledger does not know to be in Label Studio


def index_output(runs: Runs, ledger: Ledger, checks: Sequence[RunCheck], labels: Sequence[Label]) -> Indexed:
    """Note runs in the ledger as the bucket has them, their review tasks, and people's answers.

    What cannot be rebuilt from the bucket: which review tasks were sent, and how far answers were pulled. Both are
    found again in Label Studio, by the next push before it sends anything, and by the pull after that.

    Raises:
        LedgerError: the ledger fails; the same call goes on where it stopped.
    """
    left_out, tasks = [], 0
    for check in checks:
        wrong = {finding.key for finding in check.findings}
        if check.plan is None or check.state == UNKNOWN or routes_key(check.run_id) in wrong:
            left_out.append(check.run_id)
            continue
        tasks += index_run(runs, ledger, check.plan, check.summary)
    new_labels = ledger.append_labels(labels) or 0
    waiting = ledger.review_tasks(output=runs.store.root.uri, states=[PushState.PENDING, PushState.SENDING])
    return Indexed(len(checks) - len(left_out), tuple(left_out), tasks, new_labels, len(waiting))
