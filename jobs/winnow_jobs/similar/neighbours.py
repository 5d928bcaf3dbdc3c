"""Beside which others is an image shown, to say which of them show the same? Its nearest by the task's own vectors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from winnow_annotation.kinds.embed import NEIGHBOURS
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import BlobStore
from winnow_storage.current_view import view_current
from winnow_storage.neighbours import nearest, without
from winnow_storage.vectors import Floats, current_vectors

_SHOWN = ("item_id", "key", "uri", "version")


def neighbours_of(
    store: BlobStore, plan: PlanDocument, task: ResolvedTask, vectors: Mapping[str, Floats]
) -> dict[str, list[dict[str, Any]]]:
    """By item_id the NEIGHBOURS nearest to its vector, as {item_id, key, uri, version, score}; fewer of a small corpus.

    `vectors` has (width,) float32 by item_id.

    They are found exactly, among all current images with a vector that the run of `plan`, or one before it, made by
    the same task: so a night that embeds few images shows them beside those of all nights.

    Raises:
        UsageError: the vectors have another width than the committed ones.
        StoreError: an object is damaged or cannot be read, or the task's rows hold no vectors.
    """
    if not vectors:
        return {}
    made = [one for one in Runs(store).plans() if int(one.run_id) <= int(plan.run_id)]
    same = [one.run_id for one in made if (task.name, task.digest) in {(own.name, own.digest) for own in one.tasks()}]
    space = current_vectors(view_current(store.root), task.name, runs=same)
    found = nearest(space, np.array(list(vectors.values())), NEIGHBOURS + 1)  # each is its own nearest
    pairs = [(item, without(one, {item}, NEIGHBOURS)) for item, one in zip(vectors, found, strict=True)]
    return {
        item: [
            {**row, "score": score}
            for row, score in zip(one.rows.select(_SHOWN).to_pylist(), one.scores.tolist(), strict=True)
        ]
        for item, one in pairs
    }
