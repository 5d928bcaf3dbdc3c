"""Does a network see one batch size only, and a smaller one once memory runs out?"""

import pytest
import torch

from winnow_workers.models.fixed_batch import CPU_BATCH, FixedBatch


class Recorder(torch.nn.Module):
    """Adds one, remembers the sizes that it saw, and has memory for `room` images."""

    def __init__(self, room: int = 100) -> None:
        super().__init__()
        self.room = room
        self.sizes: list[int] = []

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images_nchw))
        if len(images_nchw) > self.room:
            raise torch.OutOfMemoryError("no room")
        return images_nchw.mean(dim=(1, 2, 3)) + 1


def inputs(count: int) -> list[torch.Tensor]:
    return [torch.full((1, 2, 2), float(index)) for index in range(count)]


@pytest.mark.parametrize("count", [0, 1, CPU_BATCH, CPU_BATCH + 1])
def test_fixed_batch__always_the_same_size(count: int) -> None:
    net = Recorder()
    assert [float(one) for one in FixedBatch(net, "cpu")(inputs(count))] == [index + 1 for index in range(count)]
    assert set(net.sizes) <= {CPU_BATCH}


def test_fixed_batch__halves_and_remembers() -> None:
    net = Recorder(room=CPU_BATCH // 2)
    batch = FixedBatch(net, "cpu")
    assert [float(one) for one in batch(inputs(6))] == [1, 2, 3, 4, 5, 6]
    assert batch.size == CPU_BATCH // 2
    net.sizes.clear()
    batch(inputs(1))
    assert net.sizes == [CPU_BATCH // 2]


def test_fixed_batch__one_image_is_too_big() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        FixedBatch(Recorder(room=0), "cpu")(inputs(1))
