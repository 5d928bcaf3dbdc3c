"""How do tests drive the CUDA path without a device? With streams that only keep a record; the work is done at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from winnow_workers.models.cuda_ring import CudaRing
from winnow_workers.models.fixed_batch import FixedBatch
from winnow_workers.models.normaliser import Normaliser


class Told:
    """In place of torch.cuda: who recorded, waited and synchronised, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[str, ...]] = []
        self.streams = 0
        self.events = 0

    def Stream(self) -> "ToldStream":
        self.streams += 1
        return ToldStream(self, ["copying", "running"][self.streams - 1])

    def default_stream(self) -> "ToldStream":
        return ToldStream(self, "default")

    def Event(self) -> "ToldEvent":
        self.events += 1
        return ToldEvent(self, f"event{self.events}")

    def current_stream(self) -> str:
        return "default"

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.log.append(("on", stream.name))
        yield


class ToldStream:
    def __init__(self, told: Told, name: str) -> None:
        self.told, self.name = told, name

    def wait_stream(self, other: str) -> None:
        self.told.log.append(("wait", self.name, other))

    def wait_event(self, event: "ToldEvent") -> None:
        self.told.log.append(("wait", self.name, event.name))

    def synchronize(self) -> None:
        self.told.log.append(("synchronize", self.name))


class ToldEvent:
    def __init__(self, told: Told, name: str) -> None:
        self.told, self.name = told, name

    def record(self, stream: ToldStream) -> None:
        self.told.log.append(("record", self.name, stream.name))

    def synchronize(self) -> None:
        self.told.log.append(("synchronize", self.name))


def ringed(batch: FixedBatch, told: Told | None = None) -> FixedBatch:
    """A batch on the CPU that goes the way of a CUDA one from now on."""
    if batch._preprocessing is not None:
        batch._normalise = Normaliser(batch._preprocessing, "cpu")
    batch._ring = CudaRing(batch._forward, "cpu", told or Told(), pinned=False)
    return batch
