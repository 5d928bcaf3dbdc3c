"""How does a shard get its rows when an image may end the process? Item by item, in children that may die.

A child announces every stage before it enters it, and sends every row when it has it; what its death means is decided
in `quarantine`. Children are forked from a server that has imported everything and run nothing, so a fresh one costs
little more than loading the models.
"""

import math
import multiprocessing
import multiprocessing.connection
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

import pyarrow as pa

from winnow_storage.errors import RunFailed, WinnowError
from winnow_workers.ahead import ENCODED_BYTES, REQUESTS
from winnow_workers.catalogue import operator_named
from winnow_workers.deadline import HangTimer
from winnow_workers.fetch import Item
from winnow_workers.pipeline import Pipeline, WorkerConfig
from winnow_workers.quarantine import (
    FETCH,
    OPEN,
    OUTSIDE_DEATHS,
    Cause,
    Death,
    Trial,
    cause_of_exit,
    guilty_stages,
    next_trial,
)

OPEN_S = 600.0  # how long a child may take to load the models
ASKED_AGAIN = 3  # how often a request is surely tried (s3_client.PATIENT), however long it waits for its turn
FETCH_EXTRA_S = 120.0  # a store has its own time to answer in, beside the item's
ORPHAN_EXTRA_S = 30.0  # a child that nobody watches any more ends itself so long after its deadline
OPEN_DEATHS = 3
# what models bring that takes long to import; a process that only imported them can be forked
HEAVY = ("cv2", "onnxruntime", "rapidocr", "safetensors", "timm", "torch", "torchvision", "transformers")


def allowed_s(stage: str, config: WorkerConfig) -> float:
    """How long a process may stay in a stage; in FETCH until the image is there, or another that it waits for."""
    if stage == OPEN:
        return OPEN_S
    if stage != FETCH:
        return config.item_deadline_s
    # before it: of every thread of two shards a request, each time that it is tried; the bytes that they asked for
    throttled_s = 2 * REQUESTS * ASKED_AGAIN / (config.max_requests_per_s or math.inf)
    throttled_s += 2 * (ENCODED_BYTES + config.limits.max_bytes) / (config.max_bytes_per_s or math.inf)
    return config.item_deadline_s + FETCH_EXTRA_S + throttled_s


@dataclass(frozen=True, slots=True)
class Entered:
    """A child says: from here on I am at this stage of this item."""

    item: int
    stage: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A child says: this is the item's row, an Arrow IPC stream."""

    item: int
    row: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """How a child ended: where it was, and why; `cause` None if it did all of its work."""

    item: int | None
    stage: str
    cause: Cause | None
    how: str


def rows_one_by_one(
    config: WorkerConfig,
    shard: int,
    items: Sequence[Item],
    step: Callable[[], None] = lambda: None,
) -> list[pa.RecordBatch]:
    """The row of every item, in order; an item that ends its process twice alone gets a row that says so.

    `step` is called whenever a child has said something or has ended.

    Raises:
        WinnowError: whatever of ours the pipeline raises in a child (the store refuses, a model does not load).
        RunFailed: children die without having an item to blame.
    """
    rows: dict[int, pa.RecordBatch] = {}
    deaths: list[Death] = []
    failed_to_open = 0
    while unanswered := [index for index in range(len(items)) if index not in rows]:
        trial = next_trial(unanswered, deaths)
        gone = _run_child(config, shard, items, trial, deaths, rows, step)
        step()
        if gone.cause is None:
            continue
        if gone.item is None:
            failed_to_open += 1
            if failed_to_open >= OPEN_DEATHS:
                raise RunFailed(
                    f"shard {shard}: a process that loads this run's models ended {failed_to_open} times ({gone.how})",
                    hint="look for memory, or for a model that crashes; winnow doctor SPEC loads them one by one",
                )
            continue
        deaths.append(Death(gone.item, gone.stage, gone.cause, gone.how, alone=trial.alone))
        if sum(death.cause is Cause.OUTSIDE for death in deaths) > OUTSIDE_DEATHS:
            raise RunFailed(
                f"shard {shard}: its processes were killed from outside {OUTSIDE_DEATHS} times (last by {gone.how})",
                hint="see who kills them: a supervisor, or the kernel for want of memory (dmesg); with a lower "
                "run.item_memory_bytes an image that takes too much fails by itself",
            )
    return [rows[index] for index in range(len(items))]


def _run_child(
    config: WorkerConfig,
    shard: int,
    items: Sequence[Item],
    trial: Trial,
    deaths: Sequence[Death],
    rows: dict[int, pa.RecordBatch],
    step: Callable[[], None],
) -> Gone:
    work = [(index, items[index], _without(index, deaths)) for index in trial.items]
    receiving, sending = multiprocessing.Pipe(duplex=False)
    child = _context(config).Process(target=_work, args=(sending, replace(config, threads=1), shard, work))
    with closing(receiving):
        with _nothing_of_this_program():
            child.start()
        sending.close()
        try:
            return _listen(receiving, child, config, rows, step)
        finally:
            child.kill()
            child.join()
            child.close()


def _listen(
    receiving: "multiprocessing.connection.Connection[object, object]",
    child: BaseProcess,
    config: WorkerConfig,
    rows: dict[int, pa.RecordBatch],
    step: Callable[[], None],
) -> Gone:
    item: int | None = None
    stage = OPEN
    while True:
        seconds = allowed_s(stage, config)
        try:
            if not receiving.poll(seconds):
                if _is_stopped(child.pid):
                    return Gone(item, stage, Cause.OUTSIDE, "a stop signal")
                return Gone(item, stage, Cause.HUNG, f"no answer within {seconds:.0f} s")
            message = receiving.recv()
            step()
        except (EOFError, OSError):
            child.join()
            code = child.exitcode or 0
            return Gone(item, stage, *cause_of_exit(code))
        match message:
            case Entered():
                item, stage = message.item, message.stage
            case Answered():
                rows[message.item] = pa.ipc.open_stream(message.row).read_next_batch()
            case WinnowError():
                raise message
            case _:
                return Gone(item, stage, None, "")


def _is_stopped(pid: int | None) -> bool:
    status = Path(f"/proc/{pid}/stat")
    if not status.exists():
        return False
    return status.read_text().rpartition(")")[2].split()[0] in ("T", "t")


def _without(item: int, deaths: Sequence[Death]) -> dict[str, str]:
    return {
        stage: f"quarantined: its process ended twice with this image alone ({death.cause}: {death.how})"
        for stage, death in guilty_stages(item, deaths).items()
    }


def brought() -> tuple[str, ...]:
    """Of the modules that are slow to import, those that the models of this process have brought."""
    return tuple(name for name in HEAVY if name in sys.modules)


def prepare(config: WorkerConfig, modules: Sequence[str]) -> None:
    """Start the server that children are forked from, if it does not run; it imports these modules first, too.

    It takes as long as an actor's own imports, beside whatever is done meanwhile; once it runs it stays.
    """
    _context(config, modules)
    with _nothing_of_this_program():
        forkserver.ensure_running()


def _context(config: WorkerConfig, modules: Sequence[str] = ()) -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    operators = {operator_named(task.operator).__module__ for task in config.tasks}
    preload = {"winnow_workers.children", "winnow_workers.catalogue", *operators, *modules, *brought()}
    context.set_forkserver_preload(sorted(preload))
    return context


@contextmanager
def _nothing_of_this_program() -> Iterator[None]:
    """A child would run the file of this program first, for what is pickled by its name; Ray's takes 0.7 s."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _work(
    sending: "multiprocessing.connection.Connection[object, object]",
    config: WorkerConfig,
    shard: int,
    work: Sequence[tuple[int, Item, dict[str, str]]],
) -> None:
    """What a child does: open the models, then one item after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal's processes; the parent decides
    timer = HangTimer()
    at = [-1]

    def entering(stage: str) -> None:
        timer.step(allowed_s(stage, config) + ORPHAN_EXTRA_S)
        sending.send(Entered(at[0], stage))

    try:
        timer.step(OPEN_S + ORPHAN_EXTRA_S)
        pipeline = Pipeline(config, entering, alone=True)
        pipeline.open()
        if config.device == "cpu":
            limit_memory(config.item_memory_bytes)
        for index, item, without in work:
            at[0] = index
            row = pipeline.row_alone(item, shard, without)
            sending.send(Answered(index, _encode(row)))
        sending.send(None)
    except WinnowError as error:
        sending.send(error)


def limit_memory(more_bytes: int) -> None:
    """Let this process allocate so much more than it has: beyond that, allocations fail (Linux: RLIMIT_DATA)."""
    limit = _data_bytes() + more_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _data_bytes() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024


def _encode(row: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_batch(row)
    return bytes(sink.getvalue())
