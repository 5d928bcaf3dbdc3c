"""An operator that images can hurt: what a pixel says is done to its process. And the images that say so."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from winnow_workers.operator import Operator, OperatorParams, Prediction, View

MARK = (255, 0, 254)  # the first pixel of an image that hurts; the second says how
GIBIBYTE = 2**30


class Harm(IntEnum):
    """What an image does to the process that predicts it."""

    RAISE = 1
    SEGFAULT = 2
    HANG = 3
    HANG_WITH_THE_LOCK = 4  # inside C, without letting other threads run
    MEMORY = 5
    ABORT = 6
    EXIT = 7


class PoisonOperator(Operator[OperatorParams]):
    """The mean brightness; unless the image says that it hurts."""

    params_type = OperatorParams
    default_model = "builtin/fingerprint"

    def open(self) -> None:
        """Nothing to load."""

    @property
    def preproc(self) -> str:
        return "none"

    def fields(self) -> list[pa.Field]:
        return [pa.field("mean", pa.float64())]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        for view in views:
            _suffer(view)
        return [Prediction({"mean": float(view.pixels.mean())}) for view in views]


def _suffer(view: View) -> None:
    if tuple(int(value) for value in view.pixels[0, 0]) != MARK:
        return
    match int(view.pixels[0, 1, 0]):
        case Harm.RAISE:
            raise ValueError("this image is cursed")
        case Harm.SEGFAULT:
            ctypes.string_at(0)
        case Harm.HANG:
            time.sleep(3600)
        case Harm.HANG_WITH_THE_LOCK:
            ctypes.PyDLL(None).sleep(3600)
        case Harm.MEMORY:
            kept = []
            while True:
                kept.append(np.ones(GIBIBYTE // 4, np.uint8))
        case Harm.ABORT:
            os.kill(os.getpid(), signal.SIGABRT)
        case Harm.EXIT:
            sys.exit(0)


def save_poison(path: Path, harm: Harm) -> Path:
    """An image that does that harm; PNG, so that the pixels stay as they are."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[0, 0], pixels[0, 1, 0] = MARK, int(harm)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
