"""How is a small network fitted? Steps of AdamW on batches that the caller makes, one-cycle learning rate."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from winnow_jobs.demo.sources import PixelsRGB
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.preprocess import to_tensor


def fit(network: nn.Module, loss_of_step: Callable[[int], Tensor], *, steps: int, rate: float) -> None:
    """Train in place and leave the network in evaluation mode. `loss_of_step` gives the loss of step 0, 1, ..."""
    network.train().to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps, pct_start=0.2)
    for step in range(steps):
        optimiser.zero_grad(set_to_none=True)
        loss_of_step(step).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    network.eval()


def stack(images: Sequence[PixelsRGB], preprocessing: Preprocessing) -> Tensor:
    """(n, channels, height, width): the images as the operators see them."""
    return torch.stack([to_tensor(pixels, preprocessing) for pixels in images])
