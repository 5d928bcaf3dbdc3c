"""What does the report show of each task's routes? Counts, how sure the model was, and who was sent to people."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow_jobs.routes import TO_PEOPLE

BINS = 20
EXAMPLES_PER_TASK = 6
CONFIDENCE = ("p_ok", "score")  # the first of which there is any
ROUTE_COLUMNS = ("task", "route", "reason", "item_id", "version", "key", "uri", *CONFIDENCE)

Values = NDArray[np.float32]


@dataclass(slots=True)
class TaskRoutes:
    """The routes of one task, added up."""

    routes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)
    _values: dict[str, list[Values]] = field(default_factory=lambda: {name: [] for name in CONFIDENCE})

    def add(self, rows: pa.RecordBatch) -> None:
        """Some more of them."""
        self.routes.update(rows.column("route").to_pylist())
        self.reasons.update(rows.column("reason").to_pylist())
        for name, values in self._values.items():
            values.append(rows.column(name).drop_null().to_numpy())
        wanted = EXAMPLES_PER_TASK - len(self.examples)
        if wanted > 0:
            to_people = rows.filter(pc.is_in(rows.column("route"), pa.array([str(route) for route in TO_PEOPLE])))
            self.examples += to_people.slice(0, wanted).to_pylist()

    def confidence(self) -> tuple[str, list[dict[str, float]]]:
        """What says how sure the model was, and how that is distributed; nothing if there is neither."""
        for name in CONFIDENCE:
            values = np.concatenate([*self._values[name], np.empty(0, np.float32)])
            if bars := histogram(values):
                return name, bars
        return "", []


def routes_by_task(routes: Iterable[pa.RecordBatch], tasks: Iterable[str]) -> Mapping[str, TaskRoutes]:
    """The routes of every task."""
    found = {task: TaskRoutes() for task in tasks}
    for batch in routes:
        for task, own in found.items():
            own.add(batch.filter(pc.equal(batch.column("task"), task)))
    return found


def histogram(values: Values) -> list[dict[str, float]]:
    """Counts over equal bins from the least to the greatest finite value, heights scaled to 1."""
    numbers = values[np.isfinite(values)].astype(np.float64)
    if numbers.size == 0:
        return []
    low, high = float(numbers.min()), float(numbers.max())
    width = (high - low) / BINS or 1.0
    counts = np.bincount(np.minimum((numbers - low) / width, BINS - 1).astype(np.int64), minlength=BINS).tolist()
    return [
        {
            "from": low + place * width,
            "to": low + (place + 1) * width,
            "count": count,
            "height": count / max(counts),
        }
        for place, count in enumerate(counts)
    ]
