"""How are results read? Those of one run shard by shard, or the current row of every item over all runs."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from winnow_storage import compaction, parquet_rows, shards
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.current_view import view_current
from winnow_storage.errors import StoreError
from winnow_storage.schemas import RESULT_COMMON
from winnow_storage.uri import Location, parse

WHOLE_BYTES = parquet_rows.WHOLE_BYTES
read_rows = parquet_rows.read_rows


def results_glob(output: Location, run_id: str) -> str:
    """The glob of a run's Parquet objects, as DuckDB, pandas and polars take it."""
    return f"{output}/{shards.results_prefix(run_id)}*.parquet"


def iter_results(store: BlobStore, run_id: str, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
    """(shard, its rows) of every committed shard in order; `columns` may reach into a struct (`kind.label`).

    Raises:
        StoreError: an object among the results is not a shard.
    """
    for shard, info in shards.committed_shards(store, run_id).items():
        yield shard, read_rows(store, info, columns)


def read_results(store: BlobStore, run_id: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of the committed shards; an empty table of the common columns while there are none.

    Raises:
        StoreError: an object among the results is not a shard.
    """
    tables = [rows for _, rows in iter_results(store, run_id, columns)]
    if tables:
        return pa.concat_tables(tables)
    common = RESULT_COMMON.empty_table()
    return common if columns is None else common.select([name for name in columns if name in common.column_names])


def current_files(output: Location | str) -> list[str]:
    """The Parquet files of the newest compaction, as DuckDB, pandas and polars take them, sorted by key.

    They hold what was committed when `winnow compact` read it; `read_current` also sees what came later.

    Raises:
        StoreError: nothing was compacted yet.
    """
    place = _place(output)
    found = compaction.latest(open_store(place))
    if found is None:
        raise StoreError(f"{place} has no compaction yet", hint="make one: winnow compact SPEC")
    return [f"{place}/{part.key}" for part in found.files]


def iter_current(output: Location | str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The current row of every item of the newest snapshot, in tables sorted by key (docs/reading.md says which it is).

    The files of the newest compaction are read if they cover everything that is committed; otherwise the runs are
    merged on the fly, which gives the same rows. `columns` are names, or fields of a task's struct (`kind.label`);
    they come in the order of the schema.

    Raises:
        StoreError: an object is damaged or cannot be read.
    """
    yield from view_current(_place(output)).tables(columns)


def read_current(output: Location | str, columns: Sequence[str] | None = None) -> pa.Table:
    """All tables of `iter_current` as one; an empty one of the common columns while nothing is committed.

    Raises:
        StoreError: an object is damaged or cannot be read.
    """
    view = view_current(_place(output))
    return pa.concat_tables([view.schema(columns).empty_table(), *view.tables(columns)])


def _place(output: Location | str) -> Location:
    return parse(output) if isinstance(output, str) else output
