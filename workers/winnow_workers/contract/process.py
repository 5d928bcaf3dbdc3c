"""Does an operator say the same in another process? In a fresh interpreter, which gets what an actor of Ray gets."""

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from winnow_workers.contract.bench import Bench, open_operator, predictions
from winnow_workers.contract.compare import first_difference
from winnow_workers.contract.findings import Problem
from winnow_workers.frontier import TaskFailure, attempt
from winnow_workers.operator import Prediction, TaskConfig, View

_FEW = 8  # images


def check_process(bench: Bench) -> Iterator[Problem]:
    """Spawned, not forked: nothing of this process is there but what is sent."""
    views = bench.views[:_FEW]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            sent = pool.submit(_work, bench.task, views, bench.device)
            said = attempt(sent.result)
        except BrokenProcessPool:  # before the work could be given to it
            said = TaskFailure("BrokenProcessPool: the process ended")
    if isinstance(said, TaskFailure):
        place = bench.task.operator.partition(":")[0]
        yield Problem(
            f"in another process it fails: {said.error}",
            f"let the module {place} be importable by its name there, and needs nothing that another module set up",
        )
        return
    fields, theirs = said
    if fields != [(field.name, str(field.type)) for field in bench.fields]:
        yield Problem(f"in another process its fields are {fields}", "let fields() depend on parameters and model only")
    difference = first_difference(theirs, bench.predictions[:_FEW])
    if difference is not None:
        yield Problem(
            f"another process says otherwise: {difference}",
            "seed what is drawn, and iterate over no set or hash whose order differs from process to process",
        )


def _work(task: TaskConfig, views: tuple[View, ...], device: str) -> tuple[list[tuple[str, str]], list[Prediction]]:
    operator = open_operator(task, device)
    if "torch" in sys.modules:  # as in the process that checks
        sys.modules["torch"].set_num_threads(1)
    fields = [(field.name, str(field.type)) for field in operator.fields()]
    return fields, predictions(operator, views)
