"""Of which tasks does a round of the loop learn anew how sure one may be? Of those where p_ok decides something."""

from winnow_annotation.consensus.opinions import Method
from winnow_annotation.policies import ReviewSpec
from winnow_jobs.acceptance import TESTED
from winnow_jobs.calibrators import newest_calibrator
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_storage.blobs import BlobStore
from winnow_workers.confidence.calibrator import Calibrator


def to_calibrate(spec: ResolvedSpec, store: BlobStore) -> list[tuple[ResolvedTask, Calibrator | None]]:
    """Those tasks, each with the calibrator that its present model has.

    A promise that ranks by p_ok gets one for each model, and no other: the draws that teach a calibrator are no
    evidence any more, so that learning again every round would use up all there is.

    Raises:
        StoreError: a calibrator is damaged.
    """
    found = []
    for task in spec.tasks:
        if task.kind in TESTED and _asks_for_p_ok(spec.review, task.name):
            known = newest_calibrator(store, task, spec.review.policies.get(task.name))
            if known is None or not _promises_by_p_ok(spec.review, task.name):
                found.append((task, known))
    return found


def _asks_for_p_ok(review: ReviewSpec, task: str) -> bool:
    """Whether it decides what is accepted, who is asked, or speaks as one more voice beside several people's."""
    policy = review.policies.get(task)
    if policy is None:
        return False
    decides = any(rule.min_p_ok is not None or rule.rank == "p_ok" for rule in policy.rules().values())
    speaks = review.consensus.method is Method.DAWID_SKENE_MODEL and review.limits(task).max_overlap > 1
    return decides or speaks or review.select.by == "p_ok"


def _promises_by_p_ok(review: ReviewSpec, task: str) -> bool:
    return any(rule.is_promise and rule.rank == "p_ok" for rule in review.policies[task].rules().values())
