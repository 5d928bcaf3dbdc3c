"""How do rows of runs with different tasks fit into one table? One struct type per task, and rows cast to it."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage.schemas import RESULT_COMMON

Mask = npt.NDArray[np.bool_]
TaskTypes = Mapping[str, pa.StructType]

RUN_ID = "run_id"  # the last field of every task's struct in `current`: the run that made the prediction
DROPPED = ".dropped"  # of a row: how many of its predictions could not be cast; never written


def task_types(schemas: Iterable[pa.Schema]) -> dict[str, pa.StructType]:
    """The struct of every task in `schemas`, which come newest first.

    A task has the fields of its newest struct, in that order and of those types, then the fields that only older ones
    have, then RUN_ID. Tasks come in the order in which they are met.
    """
    known: dict[str, dict[str, pa.DataType]] = {}
    for schema in schemas:
        for column in schema:
            if column.name in RESULT_COMMON.names or not pa.types.is_struct(column.type):
                continue
            fields = known.setdefault(column.name, {})
            for own in column.type:
                if own.name != RUN_ID:
                    fields.setdefault(own.name, own.type)
    return {
        name: pa.struct([*(pa.field(own, kind) for own, kind in fields.items()), pa.field(RUN_ID, pa.string())])
        for name, fields in known.items()
    }


def current_schema(types: TaskTypes) -> pa.Schema:
    """The schema of `current`: the common columns of results, then a nullable struct per task."""
    return pa.schema([*RESULT_COMMON, *(pa.field(name, kind) for name, kind in types.items())])


def conform(rows: pa.Table, types: TaskTypes, *, run_id: str | None) -> pa.Table:
    """`rows` with every task that they have as its type in `types`, and a column DROPPED.

    Only usable predictions stay (a model, no error, every field castable); all other structs become null. Fields that
    a struct lacks are null. `run_id` made all of them; None: the structs say it themselves.
    """
    names = list(RESULT_COMMON.names)
    columns: list[pa.Array | pa.ChunkedArray] = [
        rows[field.name].cast(field.type) if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type)
        for field in RESULT_COMMON
    ]
    dropped = np.zeros(rows.num_rows, dtype=np.int64)
    for name in (name for name in types if name in rows.column_names):
        predictions, lost = _fit(_one_chunk(rows[name]), types[name], run_id)
        dropped += lost
        names.append(name)
        columns.append(predictions)
    return pa.table([*columns, pa.array(dropped)], names=[*names, DROPPED])


def _fit(structs: pa.StructArray, to: pa.StructType, run_id: str | None) -> tuple[pa.StructArray, Mask]:
    """The usable predictions of `structs` as `to`, and which of them cannot be cast."""
    own = dict(zip((field.name for field in structs.type), structs.flatten(), strict=True))
    nothing = pa.nulls(len(structs))
    usable = _valid(structs) & _valid(own.get("model", nothing)) & ~_valid(own.get("error", nothing))
    lost, children = np.zeros(len(structs), dtype=np.bool_), []
    for field in to:
        if field.name == RUN_ID and run_id is not None:
            children.append(pa.repeat(run_id, len(structs)))
        elif field.name in own:
            values, failed = _cast(own[field.name], field.type)
            children.append(values)
            lost |= failed
        else:
            children.append(pa.nulls(len(structs), field.type))
    lost &= usable
    return pa.StructArray.from_arrays(children, fields=list(to), mask=pa.array(~usable | lost)), lost


def _cast(values: pa.Array, to: pa.DataType) -> tuple[pa.Array, Mask]:
    """`values` as `to`, null where Arrow finds no safe cast, and where that is. Each value is judged by itself."""
    failed = np.zeros(len(values), dtype=np.bool_)
    if values.type == to:
        return values, failed
    there = np.flatnonzero(_valid(values))
    pieces: list[pa.Array] = []
    kept: list[npt.NDArray[np.int64]] = []
    for places, piece in _castable(values, there, to):
        pieces.append(piece)
        kept.append(places)
    index = np.full(len(values), -1, dtype=np.int64)
    if kept:
        index[np.concatenate(kept)] = np.arange(sum(map(len, kept)))
    failed[there] = index[there] < 0
    whole = pa.concat_arrays(pieces) if pieces else pa.nulls(0, to)
    return whole.take(pa.array(index, mask=index < 0)), failed


def _castable(
    values: pa.Array, places: npt.NDArray[np.int64], to: pa.DataType
) -> Iterable[tuple[npt.NDArray[np.int64], pa.Array]]:
    if len(places) == 0:
        return
    try:
        yield places, values.take(pa.array(places)).cast(to)
    except pa.ArrowInvalid:  # a value does not fit: which one is found by halves
        if len(places) > 1:
            middle = len(places) // 2
            yield from _castable(values, places[:middle], to)
            yield from _castable(values, places[middle:], to)
    except (pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return  # no value of this type fits


def _valid(values: pa.Array) -> Mask:
    mask: Mask = pc.is_valid(values).to_numpy(zero_copy_only=False)
    return mask


def _one_chunk(column: pa.ChunkedArray) -> pa.StructArray:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
