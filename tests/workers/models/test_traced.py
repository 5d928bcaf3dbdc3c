"""A network that runs often is recorded where that changes nothing, and is used where it is faster."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from winnow_workers.models import traced
from winnow_workers.models.traced import HOT, TRIALS, Traced, record

SHAPE = (2, 3, 16, 16)


class Branching(nn.Module):
    """Goes another way by what the numbers are."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch * 2 if bool(batch.sum() > 0) else batch * 3


class Named(nn.Module):
    """Answers by name, as torchvision's segmenters do."""

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": batch * 2}


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ]
    return nn.Sequential(*layers).eval()


def batches(count: int, shape: tuple[int, ...] = SHAPE) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(shape, generator=generator) for _ in range(count))


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which the recording takes half of the time, and no batch long."""
    ticks = iter(range(1_000_000))
    now = [0.0]

    def perf_counter() -> float:
        # start and end of the last batch before it is recorded, then of each trial; recordings are tried at odd calls
        tick = next(ticks)
        if tick % 2:
            now[0] += 0.002 if (tick // 2) % 2 else 0.001
        return now[0]

    monkeypatch.setattr(traced.time, "perf_counter", perf_counter)


@pytest.mark.usefixtures("faster")
def test_traced__the_same_bits_before_and_after() -> None:
    plain, module = network(), network()
    runs = Traced(module)
    seen = []
    with torch.inference_mode():
        for batch in batches(HOT + 2 * TRIALS + 10):
            assert torch.equal(runs(batch), plain(batch))
            seen.append(runs.is_recorded)
    assert not any(seen[: HOT + 2 * TRIALS])
    assert seen[-1]


def test_traced__what_is_not_faster_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced.time, "perf_counter", lambda: 0.0)
    runs = Traced(network())
    with torch.inference_mode():
        for batch in batches(HOT + 2 * TRIALS + 4):
            runs(batch)
    assert runs._is_settled
    assert not runs.is_recorded


def test_traced__few_batches_are_not_worth_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "record", lambda *_: pytest.fail("recorded"))
    runs = Traced(network())
    with torch.inference_mode():
        for batch in batches(HOT):
            runs(batch)
        for batch in batches(HOT, (2, 3, 8, 8)):
            runs(batch)


def test_traced__another_shape_than_the_recorded_one() -> None:
    plain, runs = network(), Traced(network())
    runs._recording, runs._shape, runs._is_settled = lambda _: pytest.fail("of another shape"), SHAPE, True
    with torch.inference_mode():
        (other,) = batches(1, (1, 3, 16, 16))
        assert torch.equal(runs(other), plain(other))


def test_traced__slow_batches_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(traced.time, "perf_counter", lambda: float(next(now)))
    monkeypatch.setattr(traced, "record", lambda *_: pytest.fail("recorded"))
    runs = Traced(network())
    with torch.inference_mode():
        for batch in batches(HOT + 2):
            runs(batch)
    assert runs._is_settled


def test_traced__large_networks_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "MAX_BYTES", 10)
    monkeypatch.setattr(traced, "record", lambda *_: pytest.fail("recorded"))
    runs = Traced(network())
    with torch.inference_mode():
        for batch in batches(HOT + 2):
            runs(batch)


@pytest.mark.parametrize("module", [Branching(), Named()])
def test_record__not_what_hangs_on_the_numbers_or_is_no_tensor(module: nn.Module) -> None:
    with torch.inference_mode():
        (batch,) = batches(1)
        assert record(module.eval(), batch) is None


def test_record__a_torch_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.jit, "trace")
    with torch.inference_mode():
        (batch,) = batches(1)
        assert record(network(), batch) is None
