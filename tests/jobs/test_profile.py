"""Rates that leave out start and end, and stages by their share."""

from pathlib import Path

import pytest

from tests.jobs.whole_nights import begin, job, runs_of, work_through
from tests.workers.pipelines import save_image
from winnow_jobs.machine import ledger_of
from winnow_jobs.profile import profile_lines, profiled, steady_rate
from winnow_jobs.report import write_report
from winnow_jobs.run import finish


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
        (
            "  steady: 90.0 items/s, 0.90 of a bare loop's 100.0 "
            "(the same decoding and models in the same actors, of images in memory)"
        ),
    ]
    assert "too few shards" in profile_lines(profiled(stages, items_per_s=None, bare_items_per_s=100.0))[-1]
    assert "no bare loop could be timed" in profile_lines(profiled(stages, items_per_s=90.0, bare_items_per_s=None))[-1]


@pytest.mark.parametrize("bare_items_per_s", [None, 50.0])
def test_report__names_the_bottleneck_of_a_run_that_is_too_short_for_a_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare_items_per_s: float | None
) -> None:
    monkeypatch.setenv("WINNOW_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    for number in range(5):
        save_image(tmp_path / f"corpus/{number}.png", seed=number)
    resolved = job(tmp_path)
    runs, plan = runs_of(resolved), begin(resolved)
    assert plan is not None
    tally = work_through(runs, plan)
    tally.compare(bare_items_per_s, actors=1)
    assert tally.profile is not None
    assert tally.profile["ratio"] is None
    finish(runs, plan, tally, 1.0)
    with ledger_of(None) as ledger:
        write_report(resolved, runs, ledger, run_id=None, truth=None, out=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"Bottleneck: {tally.profile['bottleneck']}." in page
    assert ("makes 50.0 items a second; this run had too few shards" in page) == (bare_items_per_s is not None)
    assert ("No bare loop could be timed" in page) == (bare_items_per_s is None)
