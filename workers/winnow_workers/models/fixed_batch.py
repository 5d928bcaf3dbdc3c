"""How does a network run so that the company an image is in changes nothing? In batches padded to one fixed size."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from winnow_workers.models.fold import fold_batch_norms

if TYPE_CHECKING:
    import torch
    from torch import nn

CPU_BATCH = 8  # measured fastest for ResNet-50 and MobileNetV3-small (docs/benchmarks.md); what is filled up is wasted
CUDA_BATCH = 32


class FixedBatch:
    """Runs a network over any number of inputs, always `size` at a time, the rest filled with zeros.

    A kernel may pick another algorithm, and so other last digits, for another batch size; this one never sees another.
    Running out of device memory halves the size once and for all.
    """

    def __init__(self, module: "nn.Module", device: str) -> None:
        import torch

        if device == "cpu":  # not measured on others
            fold_batch_norms(module)
        self.module = module.to(memory_format=torch.channels_last)  # of convolutions: the faster layout everywhere
        self.device = device
        self.size = CUDA_BATCH if device == "cuda" else CPU_BATCH
        self.precision: Literal["fp32", "bf16"] = "fp32"

    def __call__(self, inputs: "Sequence[torch.Tensor]") -> "list[torch.Tensor]":
        """One output per (channels, height, width) input, in order, float32 on the CPU."""
        import torch

        outputs: list[torch.Tensor] = []
        while len(outputs) < len(inputs):
            part = inputs[len(outputs) : len(outputs) + self.size]
            try:
                outputs.extend(self._run(part))
            except torch.OutOfMemoryError:
                if self.size == 1:
                    raise
                self.size //= 2
                torch.cuda.empty_cache()
        return outputs

    def _run(self, part: "Sequence[torch.Tensor]") -> "list[torch.Tensor]":
        import torch

        batch = torch.empty((self.size, *part[0].shape), memory_format=torch.channels_last)
        torch.stack(list(part), out=batch[: len(part)])
        batch[len(part) :].zero_()
        with torch.inference_mode(), self._cast():
            output = self.module(batch.to(self.device, non_blocking=True))
        if isinstance(output, dict):  # torchvision's segmenters
            output = output["out"]
        return list(output[: len(part)].float().cpu())

    def _cast(self) -> AbstractContextManager[object]:
        """Autocasting keeps what bfloat16 is too coarse for, such as softmax, in float32; weights stay as they are."""
        import torch

        return torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16" else nullcontext()
