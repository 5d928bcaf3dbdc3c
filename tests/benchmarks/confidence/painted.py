"""What is to be found, and what to be painted? Scenes under damage, through the operators `detect` and `segment`.

Corrupted: a third of the contrast before the damage, which neither the networks nor the calibrators have seen.
"""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.benchmarks.confidence.hard import Answers, Hard, Part, judged, structs_of
from tests.benchmarks.confidence.scenes import LABELS, Scene, scenes
from tests.workers.operators.making import opened
from winnow_workers.masks import encode_rle
from winnow_workers.operator import Operator

COUNTS: dict[Part, int] = {"calibrate": 2000, "held out": 4200, "corrupted": 2400}
SEEDS: dict[Part, int] = {"calibrate": 1, "held out": 2, "corrupted": 2}
CORRUPTED_CONTRAST = 1 / 3
LADDER = (0.5, 0.7, 0.9, 1.1, 1.4)


@cache
def operators() -> dict[str, Operator[Any]]:
    """Both, open, with networks that are trained here and now."""
    from tests.benchmarks.confidence.trained import trained

    with tempfile.TemporaryDirectory() as folder:
        paths = trained(Path(folder), ("detect", "segment"))
        return {
            name: opened(name, str(path), **({"max_iou": 0.5} if name == "detect" else {}))
            for name, path in paths.items()
        }


def _answers(operator: str, part: Part, strongest: float) -> Answers:
    contrast = CORRUPTED_CONTRAST if part == "corrupted" else 1.0
    shown = scenes(COUNTS[part], strongest, SEEDS[part], contrast=contrast)
    structs = structs_of(operators()[operator], [one.pixels for one in shown])
    return judged(operator, structs, [_true(operator, one) for one in shown])


def _true(operator: str, scene: Scene) -> dict[str, Any]:
    if operator == "detect":
        return {"boxes": [{"label": LABELS[label], "box": list(box)} for label, box in scene.boxes]}
    present = [(label, scene.classes == place) for place, label in enumerate(LABELS, 1)]
    return {"masks": [{"label": label, "rle": encode_rle(mask)} for label, mask in present if mask.any()]}


def tasks() -> list[Hard]:
    """Detect and segment."""
    setup = "painted scenes of 48 px under damage of up to {}"
    return [
        Hard(name, name, setup, LADDER, lambda part, strongest, name=name: _answers(name, part, strongest))  # type: ignore[misc]
        for name in ("detect", "segment")
    ]
