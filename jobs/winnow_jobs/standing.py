"""What stands of an item after the runs so far? Pure: what each run's rows say, heard oldest run first.

What stands for a task and an item's version is what was said last, and by which run. It is all that planning needs of
the past, so it may be taken down after some runs (`take_down`) and gone on from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow_storage.schemas import Outcome

# What a row says of a task: nothing, or the outcome that counts for it. DONE is a prediction.
SILENT = 0
SAYS = {outcome: code for code, outcome in enumerate(Outcome, start=1)}
WITHOUT_PREDICTION = tuple(SAYS[one] for one in (Outcome.UNREADABLE, Outcome.MISSING, Outcome.REJECTED))

ROW_BITS = 32  # of a row's place in its run, which is shard << ROW_BITS | row

Says = NDArray[np.int8]
Mask = NDArray[np.bool_]
Places = NDArray[np.int32]
RowPlaces = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RunRows:
    """Some rows of one shard of one run, sorted by key: for every task (first axis) what each says of it, int8."""

    run: int  # its place among the earlier runs
    keys: pa.StringArray
    versions: pa.StringArray
    says: Says
    shard: int = 0
    first_row: int = 0  # its number in the shard

    def slice(self, start: int, stop: int) -> "RunRows":
        """The rows from `start` to before `stop`."""
        count = stop - start
        return RunRows(
            self.run,
            self.keys.slice(start, count),
            self.versions.slice(start, count),
            self.says[:, start:stop],
            self.shard,
            self.first_row + start,
        )

    @property
    def places(self) -> RowPlaces:
        """Of the rows, in their run."""
        return (self.shard << ROW_BITS) + self.first_row + np.arange(len(self.keys), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class StandingRows:
    """What stood after some runs, sorted by key and version: for every task (first axis) what was said last, int8, the
    place of the run that said it, int32, and that of the row in that run, int64. They are heard before any run's own
    rows.
    """

    keys: pa.StringArray
    versions: pa.StringArray
    says: Says
    runs: Places
    places: RowPlaces

    def slice(self, start: int, stop: int) -> "StandingRows":
        """The rows from `start` to before `stop`."""
        count = stop - start
        return StandingRows(
            self.keys.slice(start, count),
            self.versions.slice(start, count),
            self.says[:, start:stop],
            self.runs[:, start:stop],
            self.places[:, start:stop],
        )


Rows = RunRows | StandingRows


@dataclass(frozen=True, slots=True)
class Again:
    """What a run takes again: of every outcome, and of every earlier run, whether it does."""

    outcomes: Mask
    runs: Mask


class Standing:
    """What stands for each task and item: what was said of it last, by which run, and in which of its rows."""

    def __init__(self, tasks: int, items: int) -> None:
        self.says = np.full((tasks, items), SILENT, np.int8)
        self.runs = np.zeros((tasks, items), np.int32)
        self.places = np.zeros((tasks, items), np.int64)

    def hear(self, rows: Sequence[Rows], places: Places, then: Sequence[Again]) -> None:
        """The rows of some runs, oldest run first. `places` says where the item of each row is, one after the other,
        -1 for nowhere; `then` what each of the runs took again.
        """
        stop = 0
        for some in rows:
            start, stop = stop, stop + len(some.keys)
            known = np.flatnonzero(places[start:stop] >= 0)
            if known.size == 0:
                continue
            at = places[start:stop][known]
            if isinstance(some, StandingRows):
                self.says[:, at], self.runs[:, at] = some.says[:, known], some.runs[:, known]
                self.places[:, at] = some.places[:, known]
            else:
                self._hear(some, at, known, then[some.run])

    def due(self, again: Again) -> Mask:
        """What is to be done if all this is asked for again."""
        return self._due(slice(None), again)

    def _hear(self, rows: RunRows, at: Places, known: NDArray[np.intp], again: Again) -> None:
        says = rows.says[:, known]
        without = np.isin(says, WITHOUT_PREDICTION)
        if without.any():  # such a row speaks only of the tasks that the run had to do there
            says = np.where(without & ~self._due(at, again), np.int8(SILENT), says)
        spoken = says != SILENT
        self.says[:, at] = np.where(spoken, says, self.says[:, at])
        self.runs[:, at] = np.where(spoken, np.int32(rows.run), self.runs[:, at])
        self.places[:, at] = np.where(spoken, rows.places[known], self.places[:, at])

    def _due(self, at: Places | slice, again: Again) -> Mask:
        says = self.says[:, at]
        due: Mask = (says == SILENT) | again.outcomes[says] | again.runs[self.runs[:, at]]
        return due


def take_down(rows: Sequence[Rows], *, then: Sequence[Again], tasks: int) -> StandingRows:
    """What stands after `rows`, oldest run first, of every version of an item of which anything was said."""
    keys, versions = _joined([some.keys for some in rows]), _joined([some.versions for some in rows])
    order = pc.sort_indices(
        pa.table([keys, versions], names=["key", "version"]), sort_keys=[("key", "ascending"), ("version", "ascending")]
    )
    keys, versions = keys.take(order), versions.take(order)
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = _differs(keys) | _differs(versions)
    places = np.empty(len(order), np.int32)
    places[order.to_numpy()] = np.cumsum(is_first) - 1
    standing = Standing(tasks, int(is_first.sum()))
    standing.hear(rows, places, then)
    spoken = np.flatnonzero((standing.says != SILENT).any(axis=0))
    chosen = pa.array(np.flatnonzero(is_first)[spoken])
    return StandingRows(
        keys.take(chosen),
        versions.take(chosen),
        standing.says[:, spoken],
        standing.runs[:, spoken],
        standing.places[:, spoken],
    )


def _joined(columns: Sequence[pa.StringArray]) -> pa.StringArray:
    return pa.concat_arrays([*columns, pa.array([], pa.string())])


def _differs(column: pa.StringArray) -> Mask:
    mask: Mask = pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return mask
