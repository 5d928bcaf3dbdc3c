"""Which due items need nothing but vectors that are committed already? Pure: what is due and what stands, in.

A head classifies the vectors of another task. Of an item for which heads alone are due, and all of whose vectors stand
in rows of its present version, nothing is fetched. Of any other the tasks that make the vectors are due beside the
heads, whether they were done or not: so what is decided is always of one version of the item's bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.standing import ROW_BITS, SAYS, Mask, Standing
from winnow_storage.schemas import WORK, Outcome

VECTORS = WORK.field("vectors").type


@dataclass(frozen=True, slots=True)
class Links:
    """Of tasks, by their places: which are heads, and of whose vectors; which are performed for their own sake."""

    sources: Mapping[int, int]  # a head -> the task whose vectors it classifies
    asked: Mask  # (tasks,): not only because a head needs it


def links_of(tasks: Sequence[ResolvedTask], asked: Sequence[str]) -> Links:
    """The links between the tasks of a run, of which these were asked for by name; none: all."""
    places = {task.name: place for place, task in enumerate(tasks)}
    sources = {place: places[task.vectors] for place, task in enumerate(tasks) if task.vectors is not None}
    return Links(sources, np.array([not asked or task.name in asked for task in tasks], np.bool_))


def settle(due: Mask, standing: Standing, links: Links) -> tuple[Mask, Mask]:
    """What is to be done once heads are seen to, and which vectors are taken from committed rows: both (tasks, items).

    `due` is what each task by itself would have to do.
    """
    due = due & links.asked[:, None]
    wanted = np.zeros_like(due)
    for head, source in links.sources.items():
        wanted[source] |= due[head]
    sees_pixels = np.ones(len(due), np.bool_)
    sees_pixels[list(links.sources)] = False
    lacks = wanted & (standing.says != SAYS[Outcome.DONE])
    is_fetched = due[sees_pixels].any(axis=0) | lacks.any(axis=0)
    return due | (wanted & is_fetched), wanted & ~is_fetched


def places_of(
    taken: Mask, standing: Standing, *, names: Sequence[str], run_ids: Sequence[str]
) -> pa.ListArray | pa.NullArray:
    """For every item the rows that hold the vectors that are taken (`schemas.WORK`, vectors); null where none is."""
    if not taken.any():
        return pa.nulls(taken.shape[1], VECTORS)
    item, task = np.nonzero(taken.T)
    places = standing.places[task, item]
    columns = [
        pa.array(names, pa.string()).take(pa.array(task)),
        pa.array(run_ids, pa.string()).take(pa.array(standing.runs[task, item])),
        pa.array(places >> ROW_BITS, pa.int32()),
        pa.array(places & ((1 << ROW_BITS) - 1), pa.int32()),
    ]
    counts = taken.sum(axis=0)
    offsets = pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))
    vectors = pa.StructArray.from_arrays(columns, fields=list(VECTORS.value_type))
    return pa.ListArray.from_arrays(offsets, vectors, type=VECTORS, mask=pa.array(counts == 0))
