"""When does a network run without Python between its layers? Once it has run often enough for a recording to pay.

A layer of a small network takes microseconds, and so does Python from one to the next; it also needs the interpreter's
lock each time, which the threads that fetch want as well. `torch.jit.trace` records what the layers do for inputs of
one shape, and the recording runs in one go. It is used if it gives the same bits and is measured to be faster; torch
calls it deprecated, but what is to replace it (torch.compile) needs a C++ compiler and minutes (docs/benchmarks.md). A
torch without it changes speed only.
"""

import time
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

SLOW_S = 0.1  # a batch that takes longer hardly gains: Python between the layers takes some milliseconds of it
HOT = 32  # batches of one shape before one is recorded: that takes as long as some dozens of them
TRIALS = 5  # batches that either way is timed over
MAX_BYTES = 256 * 2**20  # of weights, which a recording holds once more; larger networks spend their time in the layers


class Traced:
    """A network in eval mode that is called with float32 batches on a CPU, inside `torch.inference_mode`.

    Answers are the network's own to the bit, whichever way they come about.
    """

    def __init__(self, module: "nn.Module") -> None:
        self._module = module
        self._recording: Any = None
        self._shape: tuple[int, ...] = ()
        self._calls = 0
        self._seconds: tuple[list[float], list[float]] = ([], [])  # of the network, of its recording
        self._is_settled = sum(part.nbytes for part in module.parameters()) > MAX_BYTES

    @property
    def is_recorded(self) -> bool:
        """Whether batches of the usual shape run as a recording from now on."""
        return self._is_settled and self._recording is not None

    def __call__(self, batch: "torch.Tensor") -> Any:
        """What the network answers."""
        shape = tuple(batch.shape)
        if self._is_settled:
            return self._recording(batch) if self.is_recorded and shape == self._shape else self._module(batch)
        self._calls = self._calls + 1 if shape == self._shape else 1
        if shape != self._shape:
            self._forget(shape)
        if self._calls < HOT:
            return self._module(batch)
        if self._calls == HOT:
            start = time.perf_counter()
            answer = self._module(batch)
            self._is_settled = time.perf_counter() - start > SLOW_S
            return answer
        if self._recording is None:
            self._recording = record(self._module, batch)
            self._is_settled = self._recording is None
            return self._module(batch)
        return self._try(batch)

    def _forget(self, shape: tuple[int, ...]) -> None:
        self._shape, self._recording, self._seconds = shape, None, ([], [])

    def _try(self, batch: "torch.Tensor") -> Any:
        """Either way by turns, until it is known which is faster."""
        turn = self._calls % 2
        start = time.perf_counter()
        answer = (self._module, self._recording)[turn](batch)
        self._seconds[turn].append(time.perf_counter() - start)
        plain, recorded = self._seconds
        if min(len(plain), len(recorded)) >= TRIALS:
            self._is_settled = True
            if min(recorded) >= min(plain):
                self._recording = None
        return answer


def record(module: "nn.Module", batch: "torch.Tensor") -> Any:
    """What `module` does with inputs like `batch`, to be called like it; None if that hangs on more than the shape."""
    import torch

    jit: Any = torch.jit  # without types
    # filters that stay: those of a context would be mixed up with what other threads filter meanwhile
    warnings.filterwarnings("error", category=jit.TracerWarning)  # a branch on what the numbers are
    warnings.filterwarnings("ignore", r"`torch\.jit\.", FutureWarning)
    others = torch.rand_like(batch)
    try:
        traced = jit.trace(module, batch, check_trace=False)
        recording = jit.freeze(traced, optimize_numerics=False)
        for inputs in (batch, others, batch):  # it is rewritten at its second call
            if not torch.equal(recording(inputs), module(inputs)):
                return None
    except (RuntimeError, SystemError, TypeError, ValueError, AttributeError, jit.TracerWarning):
        return None  # SystemError is how torch's own code says that a warning was raised
    return recording
