"""Tests of thresholds fitted to labelled draws: they keep what they promise, and say what is missing."""

import numpy as np
import pytest

from winnow_annotation.guarantees.fit import Labelled, fit, shown
from winnow_annotation.guarantees.rank_counts import RankCounts
from winnow_annotation.policies import Rule


def population(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks, and errors that get rarer with them: 12 % over all."""
    ranks = rng.exponential(2.0, n)
    return ranks, (rng.uniform(size=n) < 0.5 * np.exp(-1.5 * ranks)).astype(float)


def counts_of(ranks: np.ndarray) -> RankCounts:
    counts = RankCounts()
    counts.add(ranks)
    return counts


def test_max_error__is_kept_as_often_as_promised_and_accepts_much() -> None:
    rng = np.random.default_rng(0)
    ranks, errors = population(rng, 50_000)
    counts, rule = counts_of(ranks), Rule(max_error=0.05, confidence=0.9)
    broken, coverage = [], []
    for _ in range(300):
        drawn = rng.choice(len(ranks), 400, replace=False)
        found = fit(rule, Labelled(ranks[drawn], errors[drawn]), counts)
        accepted = ranks >= (np.inf if found.threshold is None else found.threshold)
        broken.append(accepted.any() and errors[accepted].mean() > 0.05)
        coverage.append(accepted.mean())
        assert found.threshold is None or (found.bound or 1.0) <= 0.05
    assert np.mean(broken) <= 0.1
    assert np.mean(coverage) > 0.5


def test_max_error__fitted_on_the_surest_errors_left_out_breaks() -> None:
    """The trap: labels that were chosen, here for being unsure, and of which only the right ones count."""
    rng = np.random.default_rng(0)
    ranks, errors = population(rng, 50_000)
    drawn = rng.choice(len(ranks), 4000, replace=False)
    drawn = drawn[(errors[drawn] == 0) | (ranks[drawn] < 0.3)][:600]
    found = fit(Rule(max_error=0.05), Labelled(ranks[drawn], errors[drawn]), counts_of(ranks))
    assert found.threshold is not None
    assert errors[ranks >= found.threshold].mean() > 0.05


@pytest.mark.parametrize(
    ("errors", "labels", "missing", "why"),
    [
        (0, 50, 64, "50 labels of uniform random draws, at least 114 are needed"),
        (100, 200, None, "more labels will not help"),
        (1, 137, 50, "too many for so few labels"),
    ],
)
def test_max_error__says_how_many_labels_are_missing(errors: int, labels: int, missing: int | None, why: str) -> None:
    ranks = np.linspace(1, 2, labels)
    wrong = np.zeros(labels)
    wrong[labels - errors :] = 1
    found = fit(Rule(max_error=0.02), Labelled(ranks, wrong), counts_of(ranks))
    assert found.threshold is None
    assert why in found.why
    assert (found.missing is None) == (missing is None)
    assert missing is None or (found.missing or 0) >= missing


def test_max_loss__with_a_confidence_bounds_the_mean_of_the_accepted() -> None:
    rng = np.random.default_rng(3)
    ranks = rng.exponential(2.0, 20_000)
    losses = rng.uniform(size=20_000) * np.exp(-ranks)
    broken = []
    for _ in range(150):
        drawn = rng.choice(len(ranks), 300, replace=False)
        labelled = Labelled(ranks[drawn], losses[drawn])
        found = fit(Rule(max_loss=0.1, confidence=0.9), labelled, counts_of(ranks))
        assert found.threshold is not None
        broken.append(losses[ranks >= found.threshold].mean() > 0.1)
    assert np.mean(broken) <= 0.1
    expected = fit(Rule(max_loss=0.1), labelled, counts_of(ranks))
    assert expected.method == "conformal risk control"
    assert (expected.bound or 1.0) <= 0.1


def test_min_recall__bounds_what_is_let_through() -> None:
    rng = np.random.default_rng(4)
    harmful = rng.uniform(size=40_000) < 0.1
    ranks = np.where(harmful, rng.exponential(0.5, 40_000), rng.exponential(3.0, 40_000))
    broken = []
    for _ in range(150):
        drawn = rng.choice(len(ranks), 2000, replace=False)
        own = ranks[drawn][harmful[drawn]]
        found = fit(Rule(min_recall=0.9), Labelled(own, np.zeros(len(own)), 2000), counts_of(ranks))
        assert found.threshold is not None
        broken.append((ranks[harmful] >= found.threshold).mean() > 0.1)
    assert np.mean(broken) <= 0.1
    few = fit(Rule(min_recall=0.9), Labelled(own[:10], np.zeros(10), 100), counts_of(ranks))
    assert few.threshold is None
    assert few.missing == 120  # 22 harmful ones are needed, of which every tenth draw is one


def test_rank_counts__add_up_and_thresholds_cover_their_share() -> None:
    rng = np.random.default_rng(5)
    ranks = np.append(rng.exponential(2.0, 5000), [np.inf, np.nan, 0.0])
    whole = counts_of(ranks)
    parts = counts_of(ranks[:1000])
    parts.merge(counts_of(ranks[1000:]))
    assert parts.sparse() == whole.sparse() == RankCounts.from_sparse(whole.sparse()).sparse()
    shares = [0.1, 0.5, 0.9, 1.0]
    thresholds = whole.thresholds(shares)
    assert list(thresholds) == sorted(thresholds, reverse=True)
    for share, threshold in zip(shares[:3], thresholds, strict=False):
        covered = (ranks >= threshold).sum() / len(ranks)
        assert share <= covered <= share + 0.02
        assert covered == pytest.approx(whole.share_from(threshold))


@pytest.mark.parametrize(
    ("rule", "wrong", "draws", "is_shown"),
    [
        (Rule(max_error=0.1), 0, 30, True),
        (Rule(max_error=0.1), 0, 10, False),
        (Rule(max_error=0.1), 4, 30, False),
        (Rule(max_loss=0.1, confidence=0.9), 0, 60, True),
        (Rule(max_loss=0.1, confidence=0.9), 6, 60, False),
        (Rule(max_loss=0.1), 1, 30, True),
        (Rule(max_loss=0.1), 0, 4, False),
        (Rule(min_recall=0.8), 0, 30, False),  # all that is harmful is let through
    ],
)
def test_shown__at_a_threshold_that_others_chose(rule: Rule, wrong: int, draws: int, is_shown: bool) -> None:
    losses = np.zeros(2 * draws)
    losses[:wrong] = 1
    losses[draws:] = 1  # below the threshold: they count for nothing
    ranks = np.concatenate([np.full(draws, 2.0), np.full(draws, 0.5)])
    found = shown(rule, Labelled(ranks, losses, 2 * draws), 1.0)
    assert found.is_shown == is_shown
    assert (found.missing == 0) == is_shown
    caught = shown(Rule(min_recall=0.8), Labelled(np.full(30, 0.5), np.zeros(30), 100), 1.0)
    assert caught.is_shown
