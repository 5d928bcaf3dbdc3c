"""What is a run compared with? Uniform samples of earlier runs' vectors and scores, kept in the output by digest.

A sample has the items with the lowest positions in a seeded order of all items, so that it is the same in whatever
order they are seen, and two samples together make the sample of both. `drift/TASK/DIGEST.parquet` holds one.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow_annotation.candidates import SLACK
from winnow_annotation.sampling import position
from winnow_jobs.calibrators import vectors_of
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument
from winnow_storage.ahead import mapped_ahead
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.ids import digest_bytes
from winnow_storage.parquet_rows import read_rows
from winnow_storage.shards import committed_shards
from winnow_workers.confidence.features import Floats, said
from winnow_workers.confidence.neighbours import SAYS, Strings

READ_THREADS = 4
_TEXT = [pa.field(name, pa.string()) for name in ("item_id", "key", "said")]
_SCORES = pa.schema([*_TEXT, pa.field("score", pa.float32())])
_NAMES = ("item_id", "key")

Samples = Mapping[str, pa.Table]  # by task: item_id, key and score and what was said, or vector


class _Scored(NamedTuple):
    """Which rows of a task are usable, their scores (NaN where there is none), and what they say ("" likewise)."""

    is_usable: NDArray[np.bool_]
    scores: Floats
    said: Strings


class _Kept(NamedTuple):
    """A prediction of a sample; the lowest position first."""

    at: float
    item_id: str
    key: str
    said: str
    score: float
    shard: int


def run_samples(store: BlobStore, plan: PlanDocument, *, vectors: str | None) -> Samples:
    """At most `sample` of the usable predictions of each task of a run: scores and words, or the vectors of one task.

    Images of the same bytes as another count once. Tasks without any of these have no sample. Vectors are read of the
    shards that hold the sample; memory is that of a few shards.

    Raises:
        StoreError: an object cannot be read.
    """
    shards, wanted, seed = committed_shards(store, plan.run_id), plan.spec.review.drift.sample, _seed(plan)
    tasks = [task for task in plan.tasks() if task.kind != "embed" or task.name == vectors]
    kept: dict[str, list[_Kept]] = {task.name: [] for task in tasks}
    bounds = dict.fromkeys(kept, 1.0)
    for shard, names, scored in _scored(store, shards, tasks):
        places = np.array([position(seed, item) for item in names["item_id"].to_pylist()])
        for task, of in scored.items():
            chosen = np.flatnonzero(of.is_usable & (places <= bounds[task]))
            told = (names[name].take(pa.array(chosen)).to_pylist() for name in _NAMES)
            columns = (places[chosen].tolist(), *told, of.said[chosen].tolist(), of.scores[chosen].tolist())
            kept[task] += [_Kept._make((*one, shard)) for one in zip(*columns, strict=True)]
            if len(kept[task]) > 2 * wanted + SLACK:
                kept[task] = sorted(kept[task])[:wanted]
                bounds[task] = kept[task][-1].at
    least = {task: sorted(some)[:wanted] for task, some in kept.items()}
    found = {
        task: pa.Table.from_pylist([one._asdict() for one in some], schema=_SCORES)
        for task, some in least.items()
        if task != vectors and any(one.said or np.isfinite(one.score) for one in some)
    }
    if vectors is not None and vectors in least:
        by_shard: dict[int, list[str]] = {}
        for one in least[vectors]:
            by_shard.setdefault(one.shard, []).append(one.item_id)
        tables = list(_vectors(store, shards, by_shard, vectors))
        found |= {vectors: _lowest(pa.concat_tables(tables), seed, wanted)} if tables else {}
    return found


def together(plan: PlanDocument, before: pa.Table, now: pa.Table) -> pa.Table:
    """The sample of both; of an item that is in both the newer row."""
    is_again = pc.is_in(before["item_id"], now["item_id"].combine_chunks())
    both = pa.concat_tables([before.filter(pc.invert(is_again)), now])
    return _lowest(both, _seed(plan), plan.spec.review.drift.sample)


def vectors_in(sample: pa.Table) -> Floats:
    """The (n, width) vectors of a sample."""
    column = sample["vector"].combine_chunks()
    found: Floats = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1).astype(np.float64)
    return found


def has_scores(sample: pa.Table) -> bool:
    """Whether any prediction of a sample has a score."""
    return bool(np.isfinite(pc.fill_null(sample["score"], float("nan")).to_numpy()).any())


def has_words(sample: pa.Table) -> bool:
    """Whether the predictions of a sample say something that can be counted."""
    return any(sample["said"].to_pylist())


def keep_sample(store: BlobStore, task: str, sample: pa.Table) -> str:
    """Store it; its digest."""
    buffer = io.BytesIO()
    pq.write_table(sample.combine_chunks(), buffer, compression="zstd", write_page_checksum=True)
    data = buffer.getvalue()
    store.put_if_absent(_key(task, digest_bytes(data)), data)
    return digest_bytes(data)


def load_sample(store: BlobStore, task: str, digest: str) -> pa.Table:
    """One that was kept.

    Raises:
        StoreError: it is missing or damaged.
    """
    key = _key(task, digest)
    hint = "restore it from a backup; or set review.drift.false_alarms: 0, and nothing is compared"
    try:
        data = store.get(key)
    except BlobMissing as error:
        raise StoreError(f"{store.root}/{key} is not there, and runs are compared with it", hint=hint) from error
    if digest_bytes(data) != digest:
        raise StoreError(f"{store.root}/{key} is not what was written there", hint=hint)
    return pq.read_table(pa.BufferReader(data), use_threads=False)


def _scored(
    store: BlobStore, shards: Mapping[int, BlobInfo], tasks: Sequence[ResolvedTask]
) -> Iterator[tuple[int, pa.Table, dict[str, _Scored]]]:
    """(shard, items, and what is there of each task)."""
    fields = {task.name: ("error", "score", *([SAYS[task.kind]] if task.kind in SAYS else [])) for task in tasks}
    columns = [*_NAMES, "copied_from", *(f"{task}.{name}" for task, names in fields.items() for name in names)]

    def read(shard: int) -> tuple[int, pa.Table, dict[str, _Scored]]:
        rows = read_rows(store, shards[shard], columns)
        rows = rows.filter(pc.is_null(rows["copied_from"]))
        return shard, rows.select(list(_NAMES)), {task.name: _of(task, rows) for task in tasks}

    with ThreadPoolExecutor(READ_THREADS) as pool:
        yield from mapped_ahead(pool, read, list(shards), ahead=READ_THREADS)


def _of(task: ResolvedTask, rows: pa.Table) -> _Scored:
    struct = rows[task.name].combine_chunks()
    is_usable = pc.and_(pc.is_valid(struct), pc.is_null(pc.struct_field(struct, "error")))
    score = pc.fill_null(pc.struct_field(struct, "score").cast(pa.float64()), float("nan"))
    return _Scored(
        is_usable.to_numpy(zero_copy_only=False), score.to_numpy(zero_copy_only=False), said(task.kind, struct)
    )


def _vectors(
    store: BlobStore, shards: Mapping[int, BlobInfo], items: Mapping[int, Sequence[str]], task: str
) -> Iterator[pa.Table]:
    def read(shard: int) -> pa.Table | None:
        rows = read_rows(store, shards[shard], [*_NAMES, f"{task}.vector"])
        if task not in rows.column_names:
            return None
        rows = rows.filter(pc.is_in(rows["item_id"], pa.array(items[shard], pa.string())))
        vectors = vectors_of(rows, task).astype(np.float32)
        there = np.isfinite(vectors).all(axis=1) if vectors.shape[1] else np.zeros(len(vectors), np.bool_)
        if not there.any():
            return None
        flat = pa.array(vectors[there].ravel(), pa.float32())
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        return rows.select(list(_NAMES)).filter(pa.array(there)).append_column("vector", column)

    with ThreadPoolExecutor(READ_THREADS) as pool:
        for found in mapped_ahead(pool, read, sorted(items), ahead=READ_THREADS):
            if found is not None:
                yield found


def _lowest(rows: pa.Table, seed: str, wanted: int) -> pa.Table:
    """Those with the lowest positions, in the order of these."""
    places = np.array([position(seed, item) for item in rows["item_id"].to_pylist()])
    return rows.take(pa.array(np.argsort(places, kind="stable")[:wanted]))


def _seed(plan: PlanDocument) -> str:
    # the same for every run of a job: only so do two samples make one
    return f"{plan.spec.job}\0drift"


def _key(task: str, digest: str) -> str:
    return f"drift/{task}/{digest}.parquet"
