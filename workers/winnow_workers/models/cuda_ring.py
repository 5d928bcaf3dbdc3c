"""How do batches get to a CUDA device and back while it computes? Through two pinned buffers, on a stream of their own.

A copy from pinned memory runs beside kernels, and its call returns at once; so the next batch is put together and
copied while the present one is computed, and answers are waited for only when somebody wants them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

BUFFERS = 2  # one is filled while the other is copied


class Event(Protocol):
    """A point in a stream's work, as torch.cuda.Event."""

    def record(self, stream: Any) -> None: ...  # noqa: D102
    def synchronize(self) -> None: ...  # noqa: D102


class Streams(Protocol):
    """What is needed of torch.cuda."""

    def Stream(self) -> Any: ...  # noqa: D102, N802
    def Event(self) -> Event: ...  # noqa: D102, N802
    def stream(self, stream: Any) -> AbstractContextManager[Any]: ...  # noqa: D102
    def current_stream(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Ticket:
    """A batch under way: where its first `count` answers will be, on the host, once `done` is reached (None: now)."""

    answers: "torch.Tensor"
    count: int
    done: Event | None = None

    def wait(self) -> None:
        """Until it is done."""
        if self.done is not None:
            self.done.synchronize()

    def collect(self) -> "list[torch.Tensor]":
        """Wait, and take the answers."""
        self.wait()
        return list(self.answers[: self.count])


def fill(batch: "torch.Tensor", part: "Sequence[torch.Tensor]") -> None:
    """Put inputs into a batch, and zeros behind them."""
    import torch

    torch.stack(list(part), out=batch[: len(part)])
    batch[len(part) :].zero_()


class CudaRing:
    """Sends batches to `device` for `run`; several may be under way, and come back in order.

    `run` takes and gives a tensor on the device. `streams` is torch.cuda.
    """

    def __init__(
        self, run: "Callable[[torch.Tensor], torch.Tensor]", device: str, streams: Streams, *, pinned: bool = True
    ) -> None:
        self._run = run
        self._device = device
        self._streams = streams
        self._pinned = pinned
        self._copying, self._running = streams.Stream(), streams.Stream()
        self._running.wait_stream(streams.current_stream())  # on it the weights come
        self._buffers: list[torch.Tensor | None] = [None] * BUFFERS
        self._copied = [streams.Event() for _ in range(BUFFERS)]
        self._turn = 0

    def submit(self, part: "Sequence[torch.Tensor]", size: int) -> Ticket:
        """Send at most `size` inputs, filled up to it; waits for no more than the buffer's last copy.

        Raises:
            torch.OutOfMemoryError: the device has no room for it beside what is under way.
        """
        import torch

        turn = self._turn
        self._turn = (turn + 1) % BUFFERS
        self._copied[turn].synchronize()  # what lies in the buffer has left it; an event never recorded is over
        buffer = self._buffer(turn, (size, *part[0].shape), part[0].dtype)
        fill(buffer, part)
        with self._streams.stream(self._copying):
            inputs = buffer.to(self._device, non_blocking=True)
            self._copied[turn].record(self._copying)
        self._running.wait_event(self._copied[turn])
        with self._streams.stream(self._running):
            if inputs.is_cuda:
                inputs.record_stream(self._running)  # its memory is the copying stream's, used by the other
            output = self._run(inputs).float()
            answers = torch.empty(output.shape, dtype=output.dtype, pin_memory=self._pinned)
            answers.copy_(output, non_blocking=True)
            done = self._streams.Event()
            done.record(self._running)
        return Ticket(answers, len(part), done)

    def _buffer(self, turn: int, shape: tuple[int, ...], dtype: "torch.dtype") -> "torch.Tensor":
        import torch

        buffer = self._buffers[turn]
        if buffer is None or tuple(buffer.shape) != shape or buffer.dtype != dtype:
            # `empty` takes no memory format together with pin_memory in every version; a permuted view is the same
            count, channels, height, width = shape
            flat = torch.empty((count, height, width, channels), dtype=dtype, pin_memory=self._pinned)
            buffer = self._buffers[turn] = flat.permute(0, 3, 1, 2)
        return buffer
