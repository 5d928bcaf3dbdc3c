"""An operator that says of every image which process predicted it, takes its time, and makes the disk slow.

What is done follows from the environment, so that a disturbed run and an undisturbed one have equal specs.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.faults.poison import MARK, Harm
from winnow_workers.operator import Operator, OperatorParams, Prediction, View

LOG = "WINNOW_FAULTS_LOG"  # a file that gets "NUMBER PID" for every prediction
ITEM_S = "WINNOW_FAULTS_ITEM_S"  # how long an image takes
SYNC_S = "WINNOW_FAULTS_SYNC_S"  # how much longer the disk takes to sync a file
SIDE_PX = 32


class TallyOperator(Operator[OperatorParams]):
    """The mean brightness."""

    params_type = OperatorParams
    default_model = "builtin/fingerprint"

    def open(self) -> None:
        path = os.environ.get(LOG)
        self._log = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._item_s = float(os.environ.get(ITEM_S, "0"))
        _slow_down_the_disk(float(os.environ.get(SYNC_S, "0")))

    @property
    def preproc(self) -> str:
        return "none"

    def fields(self) -> list[pa.Field]:
        return [pa.field("mean", pa.float64())]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        return [self._predict(view) for view in views]

    def close(self) -> None:
        if self._log is not None:
            os.close(self._log)

    def _predict(self, view: View) -> Prediction:
        if self._log is not None:  # one write, appended: the lines of several processes do not mix
            os.write(self._log, f"{number_of(view)} {os.getpid()}\n".encode())
        time.sleep(self._item_s)
        return Prediction({"mean": float(view.pixels.mean())})


def number_of(view: View) -> int:
    """Which image it is, as `save_numbered` wrote it into its pixels."""
    high, middle, low = (int(value) for value in view.pixels[1, 0])
    return high << 16 | middle << 8 | low


def save_numbered(folder: Path, number: int, harm: Harm | None = None) -> Path:
    """A small image of noise that says its number, and does that harm to a PoisonOperator; PNG keeps every pixel."""
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1, 0] = (0, 0, 0) if harm is None else MARK, 0 if harm is None else int(harm)
    pixels[1, 0] = number >> 16, number >> 8 & 255, number & 255
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:06d}.png"
    Image.fromarray(pixels).save(path)
    return path


def _slow_down_the_disk(seconds: float) -> None:
    """A put then takes long enough to be killed in the middle of it, or just behind it."""
    sync = os.fsync
    if seconds == 0 or sync.__module__ == __name__:
        return

    def slow_sync(descriptor: int) -> None:
        time.sleep(seconds)
        sync(descriptor)

    os.fsync = slow_sync
