"""How do the demo's models come to be? Each is trained here, in seconds, on the training part of the sources."""

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import MappingProxyType

import torch

from winnow_jobs.demo import train_anomaly, train_digits, train_embedder, train_segmenter

# The longest first, so that two processes end together
TRAINERS: Mapping[str, Callable[[int], bytes]] = MappingProxyType(
    {
        "shapes": train_segmenter.train,
        "textures": train_anomaly.train,
        "digits": train_digits.train,
        "photos": train_embedder.train,
    }
)
_PROCESSES = 2


def train_models(folder: Path, *, seed: int = 0) -> dict[str, Path]:
    """Write a model file per trainer, `NAME.safetensors`, and return their paths by name.

    Two at a time, each in a process with one thread: as fast as one with two threads where the machine is idle, much
    faster where it is not, and equal seeds give equal bytes however many cores there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    with ProcessPoolExecutor(_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        trained = {name: pool.submit(train_one, name, seed) for name in TRAINERS}
        for name, future in trained.items():
            paths[name] = folder / f"{name}.safetensors"
            unfinished = paths[name].with_suffix(".unfinished")
            unfinished.write_bytes(future.result())
            unfinished.rename(paths[name])
    return paths


def train_one(name: str, seed: int) -> bytes:
    """The bytes of one model file. Sets this process's threads and random state; call it in a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return TRAINERS[name](seed)
