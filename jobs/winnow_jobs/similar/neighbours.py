"""Beside which others is an image shown, to say which of them show the same? Its nearest by the task's own vectors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from winnow_annotation.kinds.embed import NEIGHBOURS
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import BlobStore
from winnow_storage.current_view import CurrentView, view_current
from winnow_storage.neighbours import nearest, without
from winnow_storage.vectors import FIELD, Floats, current_vectors, has_vectors

_SHOWN = ("item_id", "key", "uri", "version")


def neighbours_of(
    store: BlobStore, plan: PlanDocument, task: ResolvedTask, vectors: Mapping[str, Floats]
) -> dict[str, list[dict[str, Any]]]:
    """By item_id the NEIGHBOURS nearest to its vector, as {item_id, key, uri, version, score}; fewer of a small corpus.

    `vectors` has (width,) float32 by item_id. What is empty, not finite, or of another width than the current vectors
    cannot be compared, and has no neighbours.

    They are found exactly, among all current images with a vector that the run of `plan`, or one before it, made by
    the same task: so a night that embeds few images shows them beside those of all nights.

    Raises:
        StoreError: an object is damaged or cannot be read.
    """
    if not vectors:
        return {}
    made = [one for one in Runs(store).plans() if int(one.run_id) <= int(plan.run_id)]
    same = [one.run_id for one in made if (task.name, task.digest) in {(own.name, own.digest) for own in one.tasks()}]
    view = view_current(store.root)
    width = _width(view, task.name)
    usable = {item: one for item, one in vectors.items() if len(one) == width and np.isfinite(one).all()}
    space, queries = current_vectors(view, task.name, runs=same), np.array(list(usable.values()))
    found = nearest(space, queries, NEIGHBOURS + 1) if usable else []  # each is its own nearest
    pairs = [(item, without(one, {item}, NEIGHBOURS)) for item, one in zip(usable, found, strict=True)]
    return {item: [] for item in vectors} | {
        item: [
            {**row, "score": score}
            for row, score in zip(one.rows.select(_SHOWN).to_pylist(), one.scores.tolist(), strict=True)
        ]
        for item, one in pairs
    }


def _width(view: CurrentView, task: str) -> int | None:
    """How many numbers the current vectors of a task have; None where it has none of one length."""
    schema = view.schema([f"{task}.{FIELD}"])
    struct = schema.field(task).type if task in schema.names else None
    return int(struct.field(FIELD).type.list_size) if struct is not None and has_vectors(struct) else None
