"""A worker that falls asleep with its shard's rows in hand, just before it commits them, until somebody wakes it.

`python -m tests.e2e.sleeper OUTPUT RUN_ID SHARD`; the attempt that stands in the bucket is its only line.
"""

import os
import signal
import sys

from winnow_jobs.runs import Runs
from winnow_storage.blobs import open_store
from winnow_storage.uri import parse
from winnow_workers.pipeline import COMMIT, Pipeline, WorkerConfig


def entering(stage: str) -> None:
    if stage == COMMIT:
        os.kill(os.getpid(), signal.SIGSTOP)


def main(output: str, run_id: str, shard: str) -> None:
    plan = Runs(open_store(parse(output))).plan(run_id)
    config = WorkerConfig(
        job=plan.spec.job,
        run_id=run_id,
        plan_digest=plan.digest,
        output=output,
        work=plan.work,
        code_version=plan.code_version,
        tasks=tuple(task.config() for task in plan.tasks()),
        limits=plan.spec.limits,
    )
    pipeline = Pipeline(config, entering)
    pipeline.open()
    receipt = pipeline.run_shard(int(shard))
    sys.stdout.write(f"{receipt.attempt}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
