"""Nights of a job over a folder or bucket, worked through by a real pipeline in this process, without Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.jobs.histories import spec, task
from winnow_annotation.policies import ReviewSpec
from winnow_jobs.begin import begin_or_go_on
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.run import Tally, _worker_config, finish
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.spec import ExecutionSpec
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_results
from winnow_storage.uri import parse
from winnow_workers.operator import Prediction, View
from winnow_workers.operators.embed import EmbedOperator
from winnow_workers.pipeline import Pipeline

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass
class Predicted:
    """How many images were predicted since it was last asked."""

    count: int = 0

    def since(self) -> int:
        count, self.count = self.count, 0
        return count


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> Predicted:
    """Counts the images that the embedder is given in this process."""
    counter, plain = Predicted(), EmbedOperator.run

    def counting(self: EmbedOperator, views: Sequence[View]) -> list[Prediction]:
        counter.count += len(views)
        return plain(self, views)

    monkeypatch.setattr(EmbedOperator, "run", counting)
    return counter


def job(
    folder: Path, *names: str, same_content: str = "once", corpus: str | None = None, out: str = "out"
) -> ResolvedSpec:
    """A job with these tasks, all the same (`kind` by default), over `folder`/corpus, in shards of four items."""
    resolved = spec(folder, *(task(name) for name in names), run=ExecutionSpec(shard_items=4))
    place = {"uri": corpus or str(folder / "corpus"), "include": ("*.png",), "same_content": same_content}
    return resolved.model_copy(update={"corpus": resolved.corpus.model_copy(update=place), "output": str(folder / out)})


def reviewed(resolved: ResolvedSpec, **review: Any) -> ResolvedSpec:
    """The job with a review."""
    return resolved.model_copy(update={"review": ReviewSpec.model_validate(review)})


def runs_of(resolved: ResolvedSpec) -> Runs:
    return Runs(open_store(parse(resolved.output)))


def begin(resolved: ResolvedSpec, **selected: Any) -> PlanDocument | None:
    """The run to work on; None if nothing is due."""
    selection = Selection.model_validate(selected)
    plan, _ = begin_or_go_on(runs_of(resolved), resolved, selection, new=False, now=lambda: NOW)
    return plan


def work_through(runs: Runs, plan: PlanDocument, *, shards: Sequence[int] | None = None) -> Tally:
    """Commit shards in order (all of them by default), as an actor does."""
    pipeline = Pipeline(_worker_config(plan, plan.spec, actors=1))
    pipeline.open()
    tally = Tally()
    for shard in range(plan.shards) if shards is None else shards:
        tally.add(pipeline.run_shard(shard), now=True)
    pipeline.close()
    return tally


def night(resolved: ResolvedSpec, **selected: Any) -> dict[str, Any]:
    """A whole run: its summary; nothing if nothing is due."""
    plan = begin(resolved, **selected)
    if plan is None:
        return {}
    runs = runs_of(resolved)
    return finish(runs, plan, work_through(runs, plan), 1.0)


def rows(resolved: ResolvedSpec, run_id: str = "0001") -> list[dict[str, Any]]:
    """The rows of a run, by key."""
    table: pa.Table = read_results(open_store(parse(resolved.output)), run_id)
    return list(table.sort_by("key").to_pylist())
