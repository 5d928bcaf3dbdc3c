"""What does a compaction take down for planning? What stands after all runs that nobody works on any more."""

from winnow_jobs import standing_files
from winnow_jobs.history import History
from winnow_jobs.plan import asked_again
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.standing import take_down
from winnow_jobs.standing_files import CODES, FORMAT, TakenDown
from winnow_storage.compaction_writer import PartsWriter
from winnow_storage.shards import committed_shards


def write_standing(runs: Runs, number: int) -> None:
    """Put what stands beside the compaction of that number; it goes on from the newest one's where that is exact.

    It is of the tasks and the corpus of the newest run, whose plan is what the next one most likely shares.

    Raises:
        StoreError: an object cannot be read or written.
    """
    plans = runs.plans()
    spec, settled = plans[-1].spec, _settled(runs, plans)
    names = [task.name for task in spec.tasks]
    with (
        History(runs.store, settled, corpus_id=spec.corpus.id, tasks=spec.tasks) as history,
        PartsWriter(runs.store, standing_files.parts_prefix(number), standing_files.schema(names)) as parts,
    ):
        begun = history.begun
        then = [asked_again(run.selection, begun[:place]) for place, run in enumerate(begun)]
        numbers = [int(run.run_id) for run in begun]
        while (bound := history.bound()) is not None:
            rows = take_down(history.until(bound), then=then, tasks=len(names))
            parts.add(standing_files.as_table(rows, names, numbers))
        record = TakenDown(
            format=FORMAT,
            codes=CODES,
            corpus_id=spec.corpus.id,
            tasks={task.name: task.digest for task in spec.tasks},
            through=int(settled[-1].run_id) if settled else 0,
            runs=history.read_runs(),
            parts=parts.finish(),
        )
    standing_files.put(runs.store, number, record)


def has_standing(runs: Runs) -> bool:
    """Whether a run planned now like the newest one would begin from what the newest compaction took down."""
    plans = runs.plans()
    spec = plans[-1].spec
    with History(runs.store, plans, corpus_id=spec.corpus.id, tasks=spec.tasks) as history:
        return history.taken_down() is not None


def _settled(runs: Runs, plans: list[PlanDocument]) -> list[PlanDocument]:
    """Without the newest run while it is worked on: its next shard would make the record one of another run."""
    newest = plans[-1]
    is_whole = len(committed_shards(runs.store, newest.run_id)) == newest.shards
    return plans if is_whole or runs.summary(newest.run_id) is not None else plans[:-1]
