"""How are embeddings read as arrays? Of the current rows, or of one run's, block by block, never all of them at once.

A task may have been changed between runs, and vectors of two models lie in spaces that have nothing in common: so whose
vectors are wanted is said by the runs that made them (`runs`).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage.blobs import BlobStore
from winnow_storage.current_types import RUN_ID
from winnow_storage.current_view import CurrentView
from winnow_storage.dataset import iter_results
from winnow_storage.errors import StoreError

Floats = npt.NDArray[np.float32]
BLOCK_ROWS = 8192
FIELD = "vector"
ABOUT = ("item_id", "key", "uri", "version", "width", "height", "bytes")  # what is known of a vector's item
ROWS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("bytes", pa.int64()),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """Some vectors, and of what they are: `rows` (schema ROWS) and `vectors`, float32 (rows, width).

    `stored` is the type of their numbers in the rows: float16 or float32.
    """

    rows: pa.Table
    vectors: Floats
    stored: str = "float32"


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of one task, in an order that is the same at every reading: by key.

    `runs`: only those that these runs made; None: of all runs.
    """

    task: str
    tables: Callable[[Sequence[str]], Iterator[pa.Table]]
    run_id: str | None = None  # of all rows, where the structs do not say it themselves
    runs: frozenset[str] | None = None

    def blocks(self) -> Iterator[VectorBlock]:
        """All of them, at most BLOCK_ROWS at a time. Rows without a usable vector of finite numbers are left out.

        Raises:
            StoreError: an object is damaged, or the task's rows hold no vectors.
        """
        made = [] if self.run_id is not None else [f"{self.task}.{RUN_ID}"]
        columns = [*ABOUT, f"{self.task}.{FIELD}", f"{self.task}.model", f"{self.task}.error", *made]
        for table in self.tables(columns):
            if self.task not in table.column_names:
                continue  # a shard of a run without this task
            for start in range(0, table.num_rows, BLOCK_ROWS):
                block = self._block(table.slice(start, BLOCK_ROWS))
                if block is not None:
                    yield block

    def of_items(self, item_ids: Collection[str]) -> VectorBlock:
        """The vectors of some items, in the order of the rows, in one block; items without one are left out.

        Raises:
            StoreError: as `blocks`.
        """
        wanted = pa.array(sorted(item_ids), pa.string())
        rows, vectors = [ROWS.empty_table()], []
        for block in self.blocks():
            places = np.flatnonzero(pc.is_in(block.rows["item_id"], wanted).to_numpy())
            if len(places):
                rows.append(block.rows.take(pa.array(places)))
                vectors.append(block.vectors[places])
        width = vectors[0].shape[1] if vectors else 0
        return VectorBlock(pa.concat_tables(rows), np.concatenate([np.empty((0, width), np.float32), *vectors]))

    def _block(self, table: pa.Table) -> VectorBlock | None:
        struct = pa.concat_arrays([pa.array([], table[self.task].type), *table[self.task].chunks])
        own = dict(zip((field.name for field in struct.type), struct.flatten(), strict=True))
        if FIELD not in own or not pa.types.is_fixed_size_list(own[FIELD].type):
            raise StoreError(
                f"the rows of the task {self.task!r} hold no vectors", hint="name a task of the operator embed: --task"
            )
        made = own[RUN_ID] if self.run_id is None else pa.repeat(self.run_id, len(struct))
        usable = pc.and_(pc.is_valid(own[FIELD]), pc.is_valid(own["model"]))
        if "error" in own:
            usable = pc.and_(usable, pc.is_null(own["error"]))
        if self.runs is not None:
            usable = pc.and_(usable, pc.is_in(made, pa.array(sorted(self.runs), pa.string())))
        places = np.flatnonzero(usable.to_numpy(zero_copy_only=False))
        vectors = _as_array(own[FIELD].take(pa.array(places)))
        is_finite = np.isfinite(vectors).all(axis=1)  # a NaN would be the highest score of every query in its block
        if not is_finite.all():
            places, vectors = places[is_finite], vectors[is_finite]
        if len(places) == 0:
            return None
        index = pa.array(places)
        about = [table[name].take(index) for name in ABOUT]
        rows = pa.table([*about, made.take(index), own["model"].take(index)], schema=ROWS)
        half = pa.types.is_float16(own[FIELD].type.value_type)
        return VectorBlock(rows, vectors, "float16" if half else "float32")


def current_vectors(view: CurrentView, task: str, *, runs: Collection[str] | None = None) -> Vectors:
    """The vectors of `current`: of every item of the newest snapshot the newest one."""
    chosen = None if runs is None else frozenset(runs)
    return Vectors(task, view.tables, runs=chosen)


def run_vectors(store: BlobStore, run_id: str, task: str) -> Vectors:
    """The vectors that one run committed, shard by shard."""
    return Vectors(task, lambda columns: (table for _, table in iter_results(store, run_id, columns)), run_id=run_id)


def has_vectors(struct: pa.StructType) -> bool:
    """Whether a task whose struct this is makes vectors: its FIELD is a list of floats of one length."""
    place = struct.get_field_index(FIELD)
    kind = None if place < 0 else struct.field(place).type
    return kind is not None and pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)


def unit(vectors: npt.NDArray[Any]) -> Floats:
    """The same (n, width) of length one, float32; a vector of length zero stays as it is."""
    wide = vectors.astype(np.float32)
    lengths = np.linalg.norm(wide.astype(np.float64), axis=1, keepdims=True)
    scaled: Floats = (wide / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return scaled


def _as_array(column: pa.FixedSizeListArray) -> Floats:
    """float32 (rows, width) of a list column without nulls."""
    values = column.flatten().to_numpy(zero_copy_only=False)
    array: Floats = np.ascontiguousarray(values.astype(np.float32).reshape(len(column), column.type.list_size))
    return array
