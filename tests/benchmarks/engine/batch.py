"""How many images does a batch have in a comparison? As many as the engine takes, for every side.

The engine looks for its size where a run is large, and remembers it: so it does here, before anything is timed, in as
many processes at once as there are cores, for each is alone with its core in no run either.
"""

import multiprocessing
import os

VARIABLE = "WINNOW_BENCH_BATCH"  # so that every process of every side sees it
LEAST = 8
MANY = 10**6


def settle_batch(model: str) -> int:
    """The engine's batch of a torchvision classifier, from now on that of all sides (`batch_size`)."""
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        size = min(pool.map(_settled, [model] * cores, chunksize=1))
    os.environ[VARIABLE] = str(size)
    return size


def batch_size() -> int:
    """What was settled, in this process or in one above it."""
    return int(os.environ.get(VARIABLE, LEAST))


def _settled(model: str) -> int:
    from winnow_workers.catalogue import operator_of
    from winnow_workers.models.resolve import resolve_model
    from winnow_workers.operator import TaskConfig

    operator = operator_of(TaskConfig("kind", "classify", resolve_model(f"torchvision/{model}", {"random": 1})), "cpu")
    operator.images = MANY
    operator.open()
    return operator.batch_size
