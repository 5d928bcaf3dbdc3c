"""Rates that leave out start and end, and stages by their share."""

import pytest

from winnow_jobs.profile import profile_lines, profiled, steady_rate


def test_steady_rate__leaves_out_start_and_end() -> None:
    slow_start = [(10.0, 5), (11.0, 5)]
    steady = [(12.0 + number, 10) for number in range(6)]
    slow_end = [(30.0, 10), (50.0, 10)]
    assert steady_rate([*slow_start, *steady, *slow_end], actors=2) == pytest.approx(10.0)


@pytest.mark.parametrize("shards", [0, 1, 2, 3, 4, 6])
def test_steady_rate__too_few_shards(shards: int) -> None:
    assert steady_rate([(float(number), 1) for number in range(shards)], actors=2) is None


def test_steady_rate__all_at_one_moment() -> None:
    assert steady_rate([(1.0, 1)] * 20, actors=1) is None


def test_profile__by_time_with_shares() -> None:
    found = profiled({"fetch_decode": 1.0, "kind": 6.0, "encode": 1.0}, items_per_s=90.0, bare_items_per_s=100.0)
    assert [one["stage"] for one in found["stages"]] == ["kind", "fetch_decode", "encode"]
    assert [one["share"] for one in found["stages"]] == [0.75, 0.125, 0.125]
    assert (found["bottleneck"], found["ratio"]) == ("kind", 0.9)


def test_profile__of_nothing() -> None:
    found = profiled({}, items_per_s=None, bare_items_per_s=None)
    assert found == {"stages": [], "bottleneck": None, "items_per_s": None, "bare_items_per_s": None, "ratio": None}


def test_profile_lines__say_the_ratio_or_why_there_is_none() -> None:
    stages = {"kind": 3.0, "fetch_decode": 1.0}
    whole = profile_lines(profiled(stages, items_per_s=90.0, bare_items_per_s=100.0))
    assert whole == [
        "  where the actors' time went: kind 75%, fetch_decode 25%",
        "  bottleneck: kind",
        "  steady: 90.0 items/s, 0.90 of a bare loop's 100.0 (decoding and models in turn, in the same actors)",
    ]
    assert "too few shards" in profile_lines(profiled(stages, items_per_s=None, bare_items_per_s=100.0))[-1]
