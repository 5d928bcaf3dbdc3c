"""What does `winnow run --backfill` select? As much of what was done before as is wanted again, and no more. Pure."""

from enum import StrEnum

from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec
from winnow_storage.errors import UsageError

FIRST_RUN = "0001"


class Backfill(StrEnum):
    """How much is done again."""

    DECISIONS = "decisions"  # heads decide about every item again, from vectors that stand, and all of it is routed
    PREDICTIONS = "predictions"  # heads decide about what they did not, as after a new one was promoted; nothing else
    ALL = "all"  # every task predicts every item again


def backfilled(chosen: Selection, spec: ResolvedSpec, what: Backfill | None) -> Selection:
    """The selection with what a backfill adds to it.

    Raises:
        UsageError: it says already since when, or there is no head among the tasks that it names.
    """
    if what is None:
        return chosen
    if chosen.since is not None:
        raise UsageError(
            f"--backfill {what} and --since both say what is done again", hint="leave one of them out of the command"
        )
    if what is Backfill.ALL:
        return chosen.model_copy(update={"since": FIRST_RUN})
    heads = tuple(
        task.name for task in spec.tasks if task.vectors is not None and (not chosen.tasks or task.name in chosen.tasks)
    )
    if not heads:
        asked = f"none of {', '.join(chosen.tasks)}" if chosen.tasks else f"no task of {spec.job}"
        raise UsageError(
            f"--backfill {what} is for tasks that classify vectors, and {asked} does",
            hint="a task of classify with vectors: TASK does; --backfill all predicts everything again",
        )
    since = FIRST_RUN if what is Backfill.DECISIONS else None
    return chosen.model_copy(update={"tasks": heads, "since": since})
