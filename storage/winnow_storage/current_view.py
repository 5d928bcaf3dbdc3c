"""How is `current` read as it is at one moment? From a compaction that covers everything committed, or by merging."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage import compaction
from winnow_storage.blobs import open_store
from winnow_storage.committed import Committed, look
from winnow_storage.compaction import Compaction
from winnow_storage.current import committed_types, resolve
from winnow_storage.current_types import current_schema
from winnow_storage.parquet_rows import ALL, Share, read_groups, read_schema
from winnow_storage.schemas import RESULT_COMMON
from winnow_storage.uri import Location


@dataclass(frozen=True, slots=True)
class CurrentView:
    """Every reading of a view gives the same rows in the same order, in any process, whatever is committed later."""

    output: Location
    committed: Committed
    compaction: Compaction | None  # one that covers everything; None: the runs are merged on the fly

    def schema(self, columns: Sequence[str] | None = None) -> pa.Schema:
        """The schema of every table."""
        return _projected(self._whole_schema(), columns)

    def tables(self, columns: Sequence[str] | None = None, *, share: Share = ALL) -> Iterator[pa.Table]:
        """The rows, sorted by key. `columns` are names, or fields of a task's struct (`kind.label`).

        Several readers that take all shares between them read every row once: row groups of a compaction, or ranges of
        the merge, which each of them then performs.

        Raises:
            StoreError: an object is damaged or cannot be read.
        """
        store, whole = open_store(self.output), self._whole_schema()
        if self.compaction is not None:
            paths = None if columns is None else _paths(columns)
            names = _projected(whole, columns).names  # Parquet gives them as they were asked for
            for place, info in enumerate(self.compaction.as_base().rows):
                # the first group of the next file goes to the next reader
                mine = replace(share, part=(share.part - place) % share.of)
                for rows in read_groups(store, info, paths, share=mine):
                    yield rows.select(names)
            return
        wanted = whole.names if columns is None else [path.partition(".")[0] for path in columns]
        types = {
            field.name: field.type
            for field in whole
            # which tasks failed is known from all of their predictions
            if field.name not in RESULT_COMMON.names and (field.name in wanted or "failed_tasks" in wanted)
        }
        for number, window in enumerate(resolve(store, self.committed, types)):
            if window.rows.num_rows and share.takes(number):
                yield project(window.rows, columns)

    def _whole_schema(self) -> pa.Schema:
        store = open_store(self.output)
        if self.compaction is not None:
            return read_schema(store, self.compaction.as_base().rows[0])
        return current_schema(committed_types(store, self.committed.runs))


def view_current(output: Location) -> CurrentView:
    """`current` as it is now; no rows are read.

    Raises:
        StoreError: a plan or the pointer cannot be read.
    """
    store = open_store(output)
    committed, found = look(store), compaction.latest(store)
    return CurrentView(output, committed, found if found is not None and found.covers_all(committed) else None)


def project(rows: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """Only `columns` of `rows`, in the order of their schema; structs whole or with some of their fields."""
    schema = _projected(rows.schema, columns)
    return pa.table([_narrowed(rows[field.name], field.type) for field in schema], schema=schema)


def _projected(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    if columns is None:
        return schema
    paths = set(_paths(columns))
    fields = []
    for field in schema:
        if field.name in paths:
            fields.append(field)
        elif pa.types.is_struct(field.type):
            own = [one for one in field.type if f"{field.name}.{one.name}" in paths]
            if own:
                fields.append(field.with_type(pa.struct(own)))
    return pa.schema(fields)


def _paths(columns: Sequence[str]) -> list[str]:
    """A field of a struct is the finest that is read, whatever lies below it."""
    return [".".join(path.split(".")[:2]) for path in columns]


def _narrowed(column: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    if column.type == to:
        return column
    chunks = [
        pa.StructArray.from_arrays(
            [pc.struct_field(chunk, field.name) for field in to], fields=list(to), mask=pc.is_null(chunk)
        )
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, to)
