"""How does a network run so that the company an image is in changes nothing? In batches padded to one fixed size."""

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from winnow_workers.models.cuda_ring import BUFFERS, CudaRing, Ticket, fill
from winnow_workers.models.fold import fold_batch_norms

if TYPE_CHECKING:
    import torch
    from torch import nn

CPU_BATCH = 8  # measured fastest for ResNet-50 and MobileNetV3-small (docs/benchmarks.md); what is filled up is wasted
CUDA_BATCH = 32


class FixedBatch:
    """Runs a network over any number of inputs, always `size` at a time, the rest filled with zeros.

    A kernel may pick another algorithm, and so other last digits, for another batch size; this one never sees another.
    Running out of device memory halves the size once and for all: what was answered before stands, and the last digits
    of what comes after may differ from those of a process that never ran out.
    """

    def __init__(self, module: "nn.Module", device: str) -> None:
        import torch

        if device == "cpu":  # not measured on others
            fold_batch_norms(module)
        self.module = module.to(memory_format=torch.channels_last)  # of convolutions: the faster layout everywhere
        self.device = device
        self.size = CUDA_BATCH if device == "cuda" else CPU_BATCH
        self.precision: Literal["fp32", "bf16"] = "fp32"
        self._ring = CudaRing(self._forward, device, torch.cuda) if device == "cuda" else None

    @property
    def at_once(self) -> int:
        """How many inputs are best given in one call: as many as can be under way."""
        return self.size * self._depth

    @property
    def _depth(self) -> int:
        return 1 if self._ring is None else BUFFERS

    def __call__(self, inputs: "Sequence[torch.Tensor]") -> "list[torch.Tensor]":
        """One output per (channels, height, width) input, in order, float32 on the CPU."""
        import torch

        outputs: list[torch.Tensor] = []
        under_way: deque[Ticket] = deque()
        start = 0
        while start < len(inputs):
            part = inputs[start : start + self.size]
            try:
                under_way.append(self.submit(part))
                start += len(part)
            except torch.OutOfMemoryError:
                if self.size == 1:
                    raise
                while under_way:  # they hold memory
                    outputs.extend(under_way.popleft().collect())
                self.size //= 2
                torch.cuda.empty_cache()
            if len(under_way) == self._depth:
                outputs.extend(under_way.popleft().collect())
        for ticket in under_way:
            outputs.extend(ticket.collect())
        return outputs

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
        return Ticket(self._forward(batch.to(self.device)).float().cpu(), len(part))

    def _forward(self, batch: "torch.Tensor") -> "torch.Tensor":
        import torch

        with torch.inference_mode(), self._cast():
            output = self.module(batch)
        result: torch.Tensor = output["out"] if isinstance(output, dict) else output  # torchvision's segmenters
        return result

    def _cast(self) -> AbstractContextManager[object]:
        """Autocasting keeps what bfloat16 is too coarse for, such as softmax, in float32; weights stay as they are."""
        import torch

        return torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16" else nullcontext()
