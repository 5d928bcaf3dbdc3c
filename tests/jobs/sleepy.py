"""An operator that takes as long as an image's first pixel says, and notes every time that it is opened, or is not."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from winnow_storage.errors import ModelError
from winnow_workers.operator import Operator, OperatorParams, Prediction, View

TICK_S = 0.1


class SleepyParams(OperatorParams):
    """Where the openings are noted, and what they do: the model loads, or it does not."""

    log: str
    opening: Literal["loads", "refuses", "ends", "hangs"] = "loads"


class SleepyOperator(Operator[SleepyParams]):
    """How long it slept."""

    params_type = SleepyParams
    default_model = "builtin/fingerprint"

    def open(self) -> None:
        with Path(self.params.log).open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()}\n")
        match self.params.opening:
            case "refuses":
                raise ModelError("its weights are of another network", hint="name the model that they are of")
            case "ends":
                os._exit(1)
            case "hangs":
                time.sleep(3600)

    @property
    def preproc(self) -> str:
        return "none"

    def fields(self) -> list[pa.Field]:
        return [pa.field("seconds", pa.float64())]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        return [self._sleep(float(view.pixels[0, 0, 0]) * TICK_S) for view in views]

    def _sleep(self, seconds: float) -> Prediction:
        time.sleep(seconds)
        return Prediction({"seconds": seconds})


def save_sleepy(path: Path, ticks: int) -> Path:
    """A small image that takes so many tenths of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8, 3), ticks, np.uint8)
    Image.fromarray(pixels).save(path)
    return path
