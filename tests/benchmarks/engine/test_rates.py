"""Rates and changes over made-up times."""

import pytest

from tests.benchmarks.engine.rates import quartile_change, steady_rate


def test_steady_rate__leaves_out_both_ends() -> None:
    slow_start, steady, slow_end = [0.0, 10.0], [10.0 + number for number in range(1, 11)], [120.0, 220.0]
    times = [*slow_start, *steady, *slow_end]
    assert steady_rate(times, leave_out=2) == pytest.approx(1.0)
    assert steady_rate(times[::-1], leave_out=2) == pytest.approx(1.0)


def test_steady_rate__batches_share_their_times() -> None:
    times = [float(batch) for batch in range(10) for _ in range(8)]
    assert steady_rate(times, leave_out=8) == pytest.approx(8.0)


def test_steady_rate__two_workers_that_finish_together() -> None:
    times = [batch + worker * 0.001 for batch in range(5) for worker in range(2) for _ in range(16)]
    assert steady_rate(times, leave_out=32) == pytest.approx(32.0, rel=0.01)
    apart = [batch + worker * 0.5 for batch in range(5) for worker in range(2) for _ in range(16)]
    assert steady_rate(apart, leave_out=32) == pytest.approx(32.0, rel=0.05)


@pytest.mark.parametrize(("times", "leave_out"), [([], 0), ([1.0, 2.0, 3.0], 1), ([5.0] * 10, 2)])
def test_steady_rate__nothing_left(times: list[float], leave_out: int) -> None:
    with pytest.raises(ValueError, match="take more images"):
        steady_rate(times, leave_out)


def test_quartile_change__growth_and_none() -> None:
    assert quartile_change([100.0] * 8) == 0.0
    assert quartile_change([100.0, 100.0, 500.0, 500.0, 500.0, 500.0, 120.0, 120.0]) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="take more shards"):
        quartile_change([1.0, 2.0, 3.0])
