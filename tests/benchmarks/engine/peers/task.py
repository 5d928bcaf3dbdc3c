"""What is every peer asked to do? The same images, model, batch, threads and cores, and a Parquet row per image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Task:
    """One job for one peer; `workers` processes that predict, one thread each."""

    model: str
    corpus: str
    output: str
    shard_items: int
    workers: int

    def paths(self) -> list[Path]:
        """The corpus, sorted."""
        return sorted(Path(self.corpus).iterdir())


def rows_of(paths: Sequence[str], answers: Sequence[tuple[int, float]], at_s: float) -> dict[str, Any]:
    """Columns of rows that were done at `at_s` (seconds since the epoch): path, label, score, at_s."""
    return {
        "path": np.array([str(path) for path in paths]),
        "label": np.array([label for label, _ in answers], np.int64),
        "score": np.array([score for _, score in answers], np.float64),
        "at_s": np.full(len(answers), at_s),
    }
