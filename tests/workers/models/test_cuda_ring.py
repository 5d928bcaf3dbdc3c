"""Do batches go through the pinned buffers in an order that loses nothing? With streams that only keep a record.

Everything but the streams is real; the work is done at once, on the CPU.
"""

import numpy as np
import pytest
import torch

from tests.workers.models.told import Told, ringed
from winnow_workers.models.cuda_ring import BUFFERS, CudaRing
from winnow_workers.models.fixed_batch import CPU_BATCH, FixedBatch
from winnow_workers.models.model_file import Preprocessing


class Means(torch.nn.Module):
    """The mean of each image; has memory for `room` images."""

    def __init__(self, room: int = 100) -> None:
        super().__init__()
        self.room = room
        self.sizes: list[int] = []

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images_nchw))
        if len(images_nchw) > self.room:
            raise torch.OutOfMemoryError("no room")
        return images_nchw.mean(dim=(1, 2, 3))


def inputs(count: int) -> list[torch.Tensor]:
    return [torch.full((3, 2, 2), float(index)) for index in range(count)]


def test_cuda_ring__a_buffer_is_filled_again_only_when_its_copy_is_over() -> None:
    told = Told()
    ring = CudaRing(Means(), "cpu", told, pinned=False)
    assert told.log == [("wait", "running", "default")]
    told.log.clear()
    for _ in range(BUFFERS + 1):
        ring.submit(inputs(2), 4)
    copied = [f"event{turn % BUFFERS + 1}" for turn in range(BUFFERS + 1)]
    done = [f"event{BUFFERS + 1 + turn}" for turn in range(BUFFERS + 1)]
    assert told.log == [
        step
        for before, after in zip(copied, done, strict=True)
        for step in [
            ("synchronize", before),
            ("on", "copying"),
            ("record", before, "copying"),
            ("wait", "running", before),
            ("on", "running"),
            ("record", after, "running"),
        ]
    ]


def test_cuda_ring__waits_for_answers_when_they_are_collected() -> None:
    told = Told()
    ticket = CudaRing(Means(), "cpu", told, pinned=False).submit(inputs(3), 4)
    told.log.clear()
    assert [float(one) for one in ticket.collect()] == [0, 1, 2]
    assert told.log == [("synchronize", f"event{BUFFERS + 1}")]


def test_cuda_ring__keeps_shape_dtype_and_layout() -> None:
    seen: list[torch.Tensor] = []

    def run(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.clone(memory_format=torch.preserve_format))
        return batch[:, 0, 0, 0]

    ring = CudaRing(run, "cpu", Told(), pinned=False)
    ring.submit(inputs(2), 4)
    ring.submit([torch.full((1, 5, 6), 7, dtype=torch.uint8)], 2)
    ring.submit(inputs(1), 4)
    assert [(tuple(one.shape), one.dtype) for one in seen] == [
        ((4, 3, 2, 2), torch.float32),
        ((2, 1, 5, 6), torch.uint8),
        ((4, 3, 2, 2), torch.float32),
    ]
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert seen[2][1:].count_nonzero() == 0  # nothing of an earlier batch is left


@pytest.mark.parametrize("count", [0, 1, CPU_BATCH, 5 * CPU_BATCH + 3])
def test_fixed_batch__through_the_ring(count: int) -> None:
    net = Means()
    batch = ringed(FixedBatch(net, "cpu"))
    assert [float(one) for one in batch(inputs(count))] == list(range(count))
    assert set(net.sizes) <= {CPU_BATCH}
    assert (batch.at_once, FixedBatch(net, "cpu").at_once) == (BUFFERS * CPU_BATCH, CPU_BATCH)


def test_fixed_batch__out_of_memory_with_batches_under_way() -> None:
    net = Means()
    batch = ringed(FixedBatch(net, "cpu"))
    first = batch.submit(inputs(CPU_BATCH))
    net.room = CPU_BATCH // 2
    assert [float(one) for one in batch(inputs(2 * CPU_BATCH + 1))] == list(range(2 * CPU_BATCH + 1))
    assert batch.size == CPU_BATCH // 2
    assert [float(one) for one in first.collect()] == list(range(CPU_BATCH))


def test_fixed_batch__submit_takes_no_more_than_a_batch() -> None:
    with pytest.raises(ValueError, match="9 inputs for a batch of 8"):
        FixedBatch(Means(), "cpu").submit(inputs(CPU_BATCH + 1))


def test_fixed_batch__begins_with_all_before_any_is_waited_for() -> None:
    told = Told()
    net = Means()
    batch = ringed(FixedBatch(net, "cpu"), told)
    answers = batch.begin(inputs(3 * CPU_BATCH))
    assert len(net.sizes) == 3
    done = [step[1] for step in told.log if step[0] == "record" and step[2] == "running"]
    assert not [step for step in told.log if step[0] == "synchronize" and step[1] in done]
    assert answers.held_bytes == 3 * CPU_BATCH * 4
    told.log.clear()
    assert [float(one) for one in answers.collect()] == list(range(3 * CPU_BATCH))
    assert told.log == [("synchronize", name) for name in done]


INPUT = Preprocessing(height_px=16, width_px=12, fit="pad", pad_value=114)


def test_fixed_batch__pixels_are_sent_as_bytes_and_answered_as_numbers() -> None:
    seen: list[tuple[torch.dtype, int, bool]] = []
    pixels = [np.random.default_rng(seed).integers(0, 256, (20, 30 + seed, 3), np.uint8) for seed in range(11)]
    plain = FixedBatch(Means(), "cpu", INPUT)
    batch = ringed(FixedBatch(Means(), "cpu", INPUT))
    assert batch._ring is not None
    forward = batch._ring._run

    def watched(sent: torch.Tensor) -> torch.Tensor:
        seen.append((sent.dtype, sent.shape[1], sent.is_contiguous(memory_format=torch.channels_last)))
        return forward(sent)

    batch._ring._run = watched
    ours, theirs = (one(one.inputs(pixels)) for one in (batch, plain))
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), atol=1e-6, rtol=1e-6)
    assert seen == [(torch.uint8, 4, True)] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fixed_batch__on_a_device() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    given = [torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(index)) for index in range(200)]
    expected = FixedBatch(net, "cpu")(given)
    for ours, theirs in zip(FixedBatch(net.to("cuda"), "cuda")(given), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
