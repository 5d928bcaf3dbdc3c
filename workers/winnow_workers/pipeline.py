"""How does a shard become a committed object? Fetch, decode once, every task, one Parquet object put if absent.

Runs inside one process and needs no Ray: the actor is a thin frontier around it.
"""

import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from uuid import uuid4

import pyarrow as pa

from winnow_storage.blobs import open_store
from winnow_storage.packed.reading import Content
from winnow_storage.parts import WorkPart, WorkReader
from winnow_storage.schemas import result_schema
from winnow_storage.shards import Receipt, commit_shard, encode_shard
from winnow_storage.uri import parse
from winnow_workers.ahead import EXTRA_DECODERS, REQUESTS, ReadAhead
from winnow_workers.catalogue import operator_of
from winnow_workers.copies import Leader, LeaderReader, Wanted, with_copies
from winnow_workers.decode import DecodeLimits, DecodeSettings
from winnow_workers.device_jpegs import AT_ONCE, open_device_jpegs
from winnow_workers.fetch import Fetched, Fetcher, Item
from winnow_workers.frontier import IsolatingRunner, TaskFailure
from winnow_workers.garbage import look_through_all, not_looked_for
from winnow_workers.limits import WHITE, check_bytes
from winnow_workers.operator import NO_PIXELS, Operator, OperatorParams, Prediction, TaskConfig
from winnow_workers.operators.embed import check_vectors
from winnow_workers.operators.head import check_widths
from winnow_workers.quarantine import DECODE, FETCH
from winnow_workers.rows import build_row, summarise
from winnow_workers.signals import ItemSignal, NeedsCare, OutOfMemory, Unavailable
from winnow_workers.stored import Stored, StoredReader
from winnow_workers.tasks import Said, Stages, in_turn, through_tasks, through_tasks_ahead, with_heads
from winnow_workers.throttle import Throttle

LEADER_READS = 8  # shard objects with the rows of leaders that are read at once
CHUNK_ITEMS = 32  # images that stand decoded in memory together, at most
CHUNK_BYTES = 256 * 2**20  # and their pixels
BARE_ITEMS = 64  # images of the bare loop
BARE_ROUNDS = 8  # of the same ones, where decoding one chunk goes on beside the models' work on another
BARE_S = 10.0  # after which it goes on no longer
COMMIT = "<commit>"
WAIT = "<wait>"  # for the models, which have another shard
Answered = tuple[Sequence[Fetched], list[Said]]  # a chunk, and what the tasks say of its images


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Everything that an actor needs to know of its run; all of it crosses Ray as plain data."""

    job: str
    run_id: str
    plan_digest: str
    output: str
    work: tuple[WorkPart, ...]
    code_version: str
    tasks: tuple[TaskConfig, ...]
    limits: DecodeLimits
    device: str = "cpu"
    threads: int = 1
    item_deadline_s: float = 300.0  # what hangs longer on a batch, or on one image, is ended
    item_memory_bytes: int = 4 * 2**30  # what one image may take beyond the models
    max_requests_per_s: float | None = None  # to the corpus, of this actor alone
    max_bytes_per_s: float | None = None
    decode: DecodeSettings = WHITE
    conditional_puts: bool = True  # whether the output honours them; otherwise it is looked before it is put


class Pipeline:
    """The operators of one run, open and warm, and the shards that they are run over."""

    def __init__(
        self, config: WorkerConfig, entering: Callable[[str], None] = lambda _: None, *, alone: bool = False
    ) -> None:
        """`entering` is told every stage before it begins; `alone` says that images come one at a time."""
        self.config = config
        self._entering = entering
        self._alone = alone
        self.store = open_store(parse(config.output))
        self.store.conditional_puts = config.conditional_puts
        self.work = WorkReader(self.store, config.work)
        limited = config.max_requests_per_s is not None or config.max_bytes_per_s is not None
        throttle = Throttle(config.max_requests_per_s, config.max_bytes_per_s) if limited else None
        self.fetcher = Fetcher(config.limits, throttle=throttle, settings=config.decode)
        self.operators: dict[str, Operator[OperatorParams]] = {}
        self.runners: dict[str, IsolatingRunner] = {}  # of tasks that see pixels
        self.heads: dict[str, IsolatingRunner] = {}  # of those that see vectors
        self.leaders: LeaderReader | None = None
        # The models work on one shard at a time; meanwhile the images of the next one are fetched, and the rows of
        # the one before are written.
        self._models = threading.Lock()
        self._pool = ThreadPoolExecutor(LEADER_READS, thread_name_prefix="winnow-leaders")
        self._fetches = ThreadPoolExecutor(2 * REQUESTS, thread_name_prefix="winnow-fetch")

    def open(self) -> None:
        """Load every model of the run.

        Raises:
            ModelError: one of them cannot be used.
            EnvironmentFault: JPEGs are to be decoded on a GPU, and that cannot be had.
        """
        with not_looked_for():
            for task in self.config.tasks:
                self._open_task(task)
        check_widths(self.operators)
        if "torch" in sys.modules:  # some tasks need none, and it takes two seconds to import
            sys.modules["torch"].set_num_threads(self.config.threads)
        self._opened()

    def _open_task(self, task: TaskConfig) -> None:
        operator = operator_of(task, self.config.device)
        operator.threads = self.config.threads
        operator.images = sum(part.rows for part in self.config.work)
        operator.open()
        check_vectors(operator)
        self.operators[task.name] = operator
        runners = self.runners if operator.vectors_of is None else self.heads
        runners[task.name] = IsolatingRunner(task.name, operator, alone=self._alone, entering=self._entering)

    def take_over(self, before: "Pipeline") -> None:
        """The models of the pipeline before this one, whose tasks are the same, instead of opening them."""
        self.operators, self.runners, self.heads = before.operators, before.runners, before.heads
        self._opened()

    def _opened(self) -> None:
        if not self._alone:  # an image that ends its process must not do so in the device's decoder
            self.fetcher.on_device = open_device_jpegs(self.config.decode.jpeg, self.config.device)
        self.schema = result_schema({name: operator.fields() for name, operator in self.operators.items()})
        wanted = {one.name: Wanted(one.model.digest, self.schema.field(one.name).type) for one in self.config.tasks}
        self.leaders = LeaderReader(self.store, wanted, self._pool)

    def close(self) -> None:
        """Let go of the models, and of the device's memory that they had: others may need it."""
        for operator in self.operators.values():
            operator.close()
        self.operators.clear()
        self.runners.clear()
        self.heads.clear()
        look_through_all()  # a network, and the ring that feeds it, hold themselves
        if self.config.device == "cuda" and "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()  # torch keeps what is free for its own next tensors

    def run_shard(self, shard: int) -> Receipt:
        """Process and commit one shard; the receipt of whoever committed it first.

        Threads may call this for different shards: the models turn from one to the next without a pause.

        Raises:
            StoreError: the corpus or the output refuses us.
            NeedsCare: an image takes more memory than is left beside the others.
        """
        stages = Stages()
        self._entering(FETCH)
        items = self.items(shard)
        with closing(ReadAhead(self._fetch, items, self._fetches, decoders=self._decoders)) as ahead, self._turn():
            batches, last = self._through_models(ahead, stages, shard)
        batches += [self._rows(*one, shard) for one in last]  # while the models turn to the next shard
        return self.commit(shard, batches, stages, stored=stored_among(items))

    def _through_models(
        self, ahead: ReadAhead, stages: Stages, shard: int
    ) -> tuple[list[pa.RecordBatch], list[Answered]]:
        """The rows of every chunk but the last, and what was said of that one; its pixels are let go of."""
        work = through_tasks_ahead if self._is_ahead else through_tasks
        batches: list[pa.RecordBatch] = []
        last: list[Answered] = []
        for chunk, said in work(self.runners, self._chunks(ahead, stages), stages):
            batches += [self._rows(*one, shard) for one in last]
            last = [(_without_pixels(chunk), with_heads(self.heads, chunk, said, stages))]
        return batches, last

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Have the models, once the shard before lets go of them."""
        self._entering(WAIT)
        with self._models:
            yield

    def commit(
        self, shard: int, batches: Sequence[pa.RecordBatch], stages: Stages, *, stored: Collection[str] = ()
    ) -> Receipt:
        """Put a shard's rows, once; the receipt of whoever committed it first. `stored`: items that were not fetched.

        Raises:
            StoreError: the output refuses us.
        """
        self._entering(COMMIT)
        start = time.perf_counter()
        rows = pa.Table.from_batches(batches)
        counts = summarise(rows, tuple(task.name for task in self.config.tasks), stored)
        receipt = Receipt(
            run_id=self.config.run_id,
            shard=shard,
            job=self.config.job,
            plan_digest=self.config.plan_digest,
            items_digest=counts.items_digest,
            code_version=self.config.code_version,
            attempt=uuid4().hex,
            outcomes=counts.outcomes,
            predictions=counts.predictions,
            errors=counts.errors,
            copied=counts.copied,
            from_vectors=counts.from_vectors,
            faults=counts.faults,
            models={task.name: task.model.digest for task in self.config.tasks},
            bytes=counts.bytes,
            seconds={name: round(value, 6) for name, value in stages.seconds.items()}
            | {"encode": round(time.perf_counter() - start, 6)},
        )
        committed, _ = commit_shard(self.store, encode_shard(rows, receipt), receipt)
        return committed

    def row_alone(self, item: Item, shard: int, without: Mapping[str, str]) -> pa.RecordBatch:
        """The row of one item, with nothing else in memory.

        `without` holds the stages that the item is known to end its process in, each with how: they are not entered
        again. A task among them carries that as its error, as all do if it is the decoding; an item that cannot even
        be fetched is unavailable.
        """
        fetched = Fetched(item, None, None)
        if FETCH in without:
            fetched = Fetched(item, None, Unavailable(without[FETCH]))
        elif DECODE not in without:
            self._entering(FETCH)
            decode = self._fetch(item)
            self._entering(DECODE)
            fetched = decode()
        answers = in_turn(self.runners, [fetched], Stages(), without)
        return self._rows([fetched], with_heads(self.heads, [fetched], answers, Stages(), without), shard)

    @property
    def _is_ahead(self) -> bool:
        """Whether the models are given work before they are done with what they have: an accelerator's, in company.

        An image alone goes through one task after the other, so that it is known which one ended the process.
        """
        return self.config.device != "cpu" and not self._alone

    def bare_loop(self, shard: int) -> tuple[int, float]:
        """The first images of a shard through their tasks with nothing around it: how many, and in how many seconds.

        What a run can be held against: as many threads decode as there, and beside the models where they do so there,
        but the bytes are in memory before the clock starts, nothing is digested or written, no row is made. On an
        accelerator the images come by several times, since nothing works beside the decoding of the first ones.

        Raises:
            StoreError: the corpus refuses us.
            NeedsCare: an image takes more memory than is left beside the others.
        """
        contents: dict[str, Content] = {}
        fetched = [item for item in self.items(shard) if item.stored is None][: max(BARE_ITEMS, self._chunk_items)]
        for item in fetched:
            self._entering(FETCH)
            with suppress(ItemSignal):
                check_bytes(item.bytes or 0, self.config.limits)
                contents[item.item_id] = self.fetcher.read(item)
        needed_side_px, count = self._needed_side_px(), 0

        def held(item: Item) -> Callable[[], Fetched]:
            return lambda: self.fetcher.developed(item, contents[item.item_id], needed_side_px)

        work, rounds = (through_tasks_ahead, BARE_ROUNDS) if self._is_ahead else (through_tasks, 1)
        items = [item for item in fetched if item.item_id in contents] * rounds
        start = time.perf_counter()
        with closing(ReadAhead(held, items, self._fetches, decoders=self._decoders)) as ahead:
            for chunk, _ in work(self.runners, self._chunks(ahead, Stages()), Stages()):
                count += sum(one.decoded is not None for one in chunk)
                if time.perf_counter() - start > BARE_S:
                    break
            return count, time.perf_counter() - start

    def items(self, shard: int) -> list[Item]:
        """The items of a shard, in the plan's order."""
        work = self.work.rows(shard)
        leaders: Sequence[Leader | None] = [None] * work.num_rows
        if work["leader"].null_count < work.num_rows:
            if self.leaders is None:
                self.open()  # what is copied is known by the operators' fields
            leaders = self.leaders.of(work) if self.leaders is not None else leaders
        stored: Sequence[Stored | Unavailable | None] = [None] * work.num_rows
        if work["vectors"].null_count < work.num_rows:
            stored = StoredReader(self.store, self._pool).of(work)
        rows = work.drop_columns(["leader", "vectors"]).to_pylist()
        return [
            Item(
                item_id=row["item_id"],
                key=row["key"],
                uri=row["uri"],
                version=row["version"],
                bytes=row["bytes"],
                tasks=frozenset(row["tasks"]),
                leader=leader,
                stored=kept,
            )
            for row, leader, kept in zip(rows, leaders, stored, strict=True)
        ]

    @property
    def _decoders(self) -> int:
        """Threads that decode ahead: none where the models have one core, which decoding would only take from them."""
        if self.config.device == "cpu" and self.config.threads == 1:
            return 0
        waiting = 0 if self.fetcher.on_device is None else AT_ONCE  # for the device
        return self.config.threads + EXTRA_DECODERS + waiting

    def _fetch(self, item: Item) -> Callable[[], Fetched]:
        return self.fetcher.bring(item, needed_side_px=self._needed_side_px())

    def _chunks(self, ahead: ReadAhead, stages: Stages) -> Iterator[list[Fetched]]:
        """The shard's images in order, cut where enough pixels stand in memory."""
        chunk: list[Fetched] = []
        pixel_bytes = 0
        while ahead:
            self._entering(FETCH)
            start = time.perf_counter()
            fetched = ahead.take(lambda: self._entering(FETCH))
            stages.add("fetch_decode", time.perf_counter() - start)
            if isinstance(fetched.signal, OutOfMemory):
                raise NeedsCare(fetched.signal.reason)
            chunk.append(fetched)
            pixel_bytes += fetched.decoded.pixels.nbytes if fetched.decoded is not None else 0
            if len(chunk) == self._chunk_items or pixel_bytes >= CHUNK_BYTES:
                yield chunk
                chunk, pixel_bytes = [], 0
        if chunk:
            yield chunk

    @property
    def _chunk_items(self) -> int:
        """On an accelerator as many as its largest batch: what is filled up is wasted."""
        if not self._is_ahead:
            return CHUNK_ITEMS
        return max(CHUNK_ITEMS, *(operator.batch_size for operator in self.operators.values()))

    def _needed_side_px(self) -> int | None:
        sides = [self.operators[name].needed_side_px for name in self.runners]
        return None if not sides or None in sides else max(side for side in sides if side is not None)

    def _rows(
        self, chunk: Sequence[Fetched], answers: Sequence[Mapping[str, Prediction | TaskFailure]], shard: int
    ) -> pa.RecordBatch:
        rows = [
            build_row(one, given, operators=self.operators, run_id=self.config.run_id, shard=shard)
            for one, given in zip(chunk, answers, strict=True)
        ]
        copied = {place: one.copied for place, one in enumerate(chunk) if one.copied is not None}
        return with_copies(pa.RecordBatch.from_pylist(rows, schema=self.schema), copied)


def _without_pixels(chunk: Sequence[Fetched]) -> list[Fetched]:
    """What rows say of a chunk."""
    return [
        one if one.decoded is None else replace(one, decoded=replace(one.decoded, pixels=NO_PIXELS)) for one in chunk
    ]


def stored_among(items: Sequence[Item]) -> list[str]:
    """The ids of the items of which nothing has to be fetched."""
    return [item.item_id for item in items if item.stored is not None]
