"""How does a network run so that the company an image is in changes nothing? In batches padded to one fixed size."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from winnow_workers.models import shapes_only
from winnow_workers.models.cuda_ring import BUFFERS, CudaRing, Ticket, fill
from winnow_workers.models.fold import fold_batch_norms
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.normaliser import Normaliser
from winnow_workers.models.preprocess import to_canvas, to_tensor
from winnow_workers.models.traced import Traced

if TYPE_CHECKING:
    import torch
    from torch import nn

    from winnow_workers.operator import PixelsHWC

CPU_BATCH = 8  # until it is known that more is faster (`batch_size`); what is filled up is wasted
CUDA_BATCH = 32


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network will have said of some inputs, in their order."""

    tickets: tuple[Ticket, ...]

    @property
    def held_bytes(self) -> int:
        """Of memory on the host, until they are let go of."""
        return sum(ticket.answers.nbytes for ticket in self.tickets)

    def collect(self) -> "list[torch.Tensor]":
        """Wait for them: float32, on the CPU."""
        return [answer for ticket in self.tickets for answer in ticket.collect()]


class FixedBatch:
    """Runs a network over any number of inputs, always `size` at a time, the rest filled with zeros.

    A kernel may pick another algorithm, and so other last digits, for another batch size; this one never sees another.
    Running out of device memory halves the size once and for all, which `on_halved` is told: what was answered before
    stands, and the last digits of what comes after may differ from those of a process that never ran out.

    To a CUDA device pixels are sent as bytes and made numbers there; elsewhere they are made numbers beforehand.
    """

    def __init__(
        self, module: "nn.Module", device: str, preprocessing: Preprocessing | None = None, *, threads: int = 1
    ) -> None:
        """`preprocessing` is what `inputs` needs; on a CUDA device `threads` of the CPU scale images for it."""
        import torch

        if device == "cpu":  # not measured on others
            fold_batch_norms(module)
        self.module = module.to(memory_format=torch.channels_last)  # of convolutions: the faster layout everywhere
        self.device = device
        self.size = CUDA_BATCH if device == "cuda" else CPU_BATCH
        self.on_halved: Callable[[int], None] | None = None
        self.precision: Literal["fp32", "bf16"] = "fp32"
        self._traced = Traced(self.module) if device == "cpu" else self.module
        self._preprocessing = preprocessing
        is_ahead = device == "cuda"
        self._normalise = Normaliser(preprocessing, device) if is_ahead and preprocessing is not None else None
        self._scalers = ThreadPoolExecutor(threads, thread_name_prefix="winnow-scale") if is_ahead else None
        self._ring = CudaRing(self._forward, device, torch.cuda) if is_ahead else None

    @property
    def at_once(self) -> int:
        """How many inputs are best given in one call: as many as can be under way."""
        return self.size * self._depth

    @property
    def _depth(self) -> int:
        return 1 if self._ring is None else BUFFERS

    def inputs(self, pixels: "Sequence[PixelsHWC]") -> "list[torch.Tensor]":
        """What is sent for these images, as the network's preprocessing says."""
        if self._preprocessing is None:
            raise ValueError("a batch without a preprocessing takes tensors only")
        if self._normalise is None:
            return [to_tensor(one, self._preprocessing) for one in pixels]
        scale = partial(to_canvas, preprocessing=self._preprocessing)
        return list(map(scale, pixels) if self._scalers is None else self._scalers.map(scale, pixels))

    def __call__(self, inputs: "Sequence[torch.Tensor]") -> "list[torch.Tensor]":
        """One output per (channels, height, width) input, in order, float32 on the CPU."""
        return self.begin(inputs).collect()

    def begin(self, inputs: "Sequence[torch.Tensor]") -> Answers:
        """Begin with any number of inputs; on a CUDA device all are under way when this returns, and may be later."""
        import torch

        tickets: list[Ticket] = []
        start = 0
        while start < len(inputs):
            part = inputs[start : start + self.size]
            try:
                tickets.append(self.submit(part))
                start += len(part)
            except torch.OutOfMemoryError:
                if self.size == 1:
                    raise
                for ticket in tickets:  # what is under way holds memory
                    ticket.wait()
                self.size //= 2
                if self.on_halved is not None:
                    self.on_halved(self.size)
                torch.cuda.empty_cache()
        return Answers(tuple(tickets))

    def submit(self, part: "Sequence[torch.Tensor]") -> Ticket:
        """Begin with at most `size` inputs; on a CUDA device without waiting for their answers (`Ticket.collect`).

        Raises:
            torch.OutOfMemoryError: the batch is too big for the device beside what is under way; the size stays.
        """
        import torch

        if len(part) > self.size:
            raise ValueError(f"{len(part)} inputs for a batch of {self.size}")
        if self._ring is not None:
            return self._ring.submit(part, self.size)
        batch = torch.empty((self.size, *part[0].shape), memory_format=torch.channels_last)
        fill(batch, part)
        if self.device == shapes_only.META:
            return Ticket(shapes_only.answer(self._forward, batch), len(part))
        return Ticket(self._forward(batch.to(self.device)).float().cpu(), len(part))

    def _forward(self, batch: "torch.Tensor") -> "torch.Tensor":
        import torch

        with torch.inference_mode():
            if self._normalise is not None and batch.dtype == torch.uint8:
                batch = self._normalise(batch)
            with self._cast():
                output = (self._traced if self.precision == "fp32" else self.module)(batch)
        result: torch.Tensor = output["out"] if isinstance(output, dict) else output  # torchvision's segmenters
        return result

    def _cast(self) -> AbstractContextManager[object]:
        """Autocasting keeps what bfloat16 is too coarse for, such as softmax, in float32; weights stay as they are."""
        import torch

        if self.precision == "fp32" or self.device == shapes_only.META:
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)
