"""How do bytes of pixels become a network's numbers on a device? By one multiply and add for the whole batch.

A quarter of what float32 would take goes over the bus, and the CPU has none of the arithmetic. The numbers are those of
`preprocess.to_tensor` up to rounding: one operation rounds less often than three (measured: 5e-7 at most).
"""

from typing import TYPE_CHECKING

from winnow_workers.models.model_file import Preprocessing

if TYPE_CHECKING:
    import torch

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601


class Normaliser:
    """Makes numbers of batches that `preprocess.to_canvas` made, on the device that they lie on."""

    def __init__(self, preprocessing: Preprocessing, device: str) -> None:
        import torch

        def per_channel(values: "torch.Tensor") -> "torch.Tensor":
            return values.to(device, torch.float32).view(1, -1, 1, 1)

        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        self._factor, self._offset = per_channel(1.0 / (255.0 * std)), per_channel(-mean / std)
        self._luma = per_channel(torch.tensor(_LUMA)) if preprocessing.channels == 1 else None
        pad_value = preprocessing.pad_value
        around = torch.zeros_like(mean) if pad_value is None else (pad_value / 255.0 - mean) / std
        self._around = per_channel(around) if preprocessing.fit == "pad" else None

    def __call__(self, canvases: "torch.Tensor") -> "torch.Tensor":
        """(n, channels, rows, columns) float32 of (n, 3 or 4, rows, columns) uint8."""
        import torch

        values = canvases[:, :3]
        if self._luma is not None:
            values = (values * self._luma).sum(dim=1, keepdim=True)
        numbers = torch.addcmul(self._offset, values, self._factor)
        if self._around is not None:
            numbers = torch.where(canvases[:, 3:] > 0, numbers, self._around)
        return numbers.contiguous(memory_format=torch.channels_last)
