"""How does PyTorch read results? An iterable dataset over `current` or one run, shared between DataLoader workers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import IterableDataset, get_worker_info

from winnow_storage.blobs import BlobInfo, open_store
from winnow_storage.current_view import view_current
from winnow_storage.errors import UsageError
from winnow_storage.parquet_rows import ALL, Share, read_rows
from winnow_storage.shards import committed_shards
from winnow_storage.uri import Location, parse


class RowSource(Protocol):
    """Rows that stay the same however often and wherever they are read; it travels to worker processes."""

    def tables(self, columns: Sequence[str] | None = None, *, share: Share = ALL) -> Iterator[pa.Table]:
        """A share of the rows; `columns` are names or fields of a struct."""
        ...


class RowDataset(IterableDataset[dict[str, Any]]):
    """Rows as dicts from a column, as it was named, to its value.

    Lists of numbers (an embedding, a box) are tensors of their own dtype and shape (length,); numbers, text and all
    else are Python's. Rows in which one of the columns is null are left out, since nothing could be collated for them;
    with `keep_null` the value is None. The rows are those that were committed when the dataset was made.

    Raises:
        UsageError: a column that the rows do not have.
    """

    def __init__(self, source: RowSource, columns: Sequence[str], *, keep_null: bool = False) -> None:
        super().__init__()
        self._source = source
        self._columns = tuple(columns)
        self._keep_null = keep_null

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        share = ALL if worker is None else Share(worker.id, worker.num_workers)
        for table in self._source.tables(self._columns, share=share):
            arrays = {path: _column(table, path) for path in self._columns}
            if not self._keep_null:
                arrays = _without_null(arrays)
            values = {path: _values(array) for path, array in arrays.items()}
            for row in zip(*values.values(), strict=True):
                yield dict(zip(values, row, strict=True))


def current_dataset(output: str, columns: Sequence[str], *, keep_null: bool = False) -> RowDataset:
    """The current row of every item at `output` (a folder or URI), with the newest usable prediction of each task.

    DataLoader workers share the row groups of the newest compaction. While it does not cover everything that is
    committed, each of them merges all runs and gives its share: exact, but `winnow compact` first is faster.

    Raises:
        StoreError: the output cannot be read.
    """
    return RowDataset(view_current(parse(output)), columns, keep_null=keep_null)


def run_dataset(output: str, run_id: str, columns: Sequence[str], *, keep_null: bool = False) -> RowDataset:
    """The rows of one run, of which DataLoader workers share the shards.

    Raises:
        StoreError: the output cannot be read.
    """
    place = parse(output)
    objects = tuple(committed_shards(open_store(place), run_id).values())
    return RowDataset(_RunRows(place, objects), columns, keep_null=keep_null)


@dataclass(frozen=True, slots=True)
class _RunRows:
    output: Location
    objects: tuple[BlobInfo, ...]

    def tables(self, columns: Sequence[str] | None = None, *, share: Share = ALL) -> Iterator[pa.Table]:
        store = open_store(self.output)
        for number, info in enumerate(self.objects):
            if share.takes(number):
                yield read_rows(store, info, columns)


def _column(table: pa.Table, path: str) -> pa.Array:
    name, _, field = path.partition(".")
    if name not in table.column_names:
        raise UsageError(
            f"the rows have no column {path!r}", hint=f"they have {', '.join(table.column_names) or 'none'}"
        )
    column = table[name]
    whole = pa.concat_arrays([*column.chunks, pa.array([], column.type)])
    return pc.struct_field(whole, field) if field else whole


def _without_null(arrays: dict[str, pa.Array]) -> dict[str, pa.Array]:
    there = pa.table(list(arrays.values()), names=list(arrays)).drop_null().combine_chunks()
    return {path: pa.concat_arrays([*there[path].chunks, pa.array([], array.type)]) for path, array in arrays.items()}


def _values(array: pa.Array) -> list[Any]:
    """One Python value or tensor for each element, None for null."""
    if not _is_numbers(array.type):
        found: list[Any] = array.to_pylist()
        return found
    there = array.drop_null()
    lengths = pc.list_value_length(there).to_pylist()
    numbers = torch.from_numpy(there.flatten().to_numpy(zero_copy_only=False).copy())
    tensors = iter(torch.split(numbers, lengths))
    return [next(tensors) if valid else None for valid in pc.is_valid(array).to_pylist()]


def _is_numbers(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    return bool(pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))
