"""What is the error among the most confident items? The risk-coverage curve, its area, and what a review finds.

Items are ranked by confidence, on any scale; one without any (NaN: the task failed) ranks below all others. Equal
confidences are taken in random order, and every number is the expectation over that: it does not depend on how the
items are sorted. Curve and area after El-Yaniv and Wiener (2010) and Geifman et al. (2018).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Over n items, the most confident first: `errors[k]` of the first k are expected to be wrong, k from 0 to n."""

    errors: Floats
    confidences: Floats  # (n,), descending, NaN last

    @property
    def n(self) -> int:
        """How many items there are."""
        return len(self.confidences)

    @property
    def risks(self) -> Floats:
        """The share of errors among the first k items, k from 1 to n."""
        shares: Floats = self.errors[1:] / np.arange(1, self.n + 1)
        return shares

    @property
    def aurc(self) -> float:
        """The mean of `risks`: the area under the curve; NaN without items."""
        return float(self.risks.mean()) if self.n else float("nan")

    @property
    def best_aurc(self) -> float:
        """The area if all errors came last: no ranking of these items does better."""
        if not self.n:
            return float("nan")
        taken = np.arange(1, self.n + 1)
        return float((np.maximum(taken - (self.n - self.errors[-1]), 0.0) / taken).mean())

    @property
    def excess_aurc(self) -> float:
        """What the ranking adds to the area (Geifman et al., E-AURC)."""
        return self.aurc - self.best_aurc

    def risk_at(self, coverage: float) -> float:
        """The share of errors among the ceil(coverage * n) most confident items; NaN where that is none."""
        taken = int(np.ceil(round(coverage * self.n, 9)))
        return float(self.errors[taken] / taken) if taken else float("nan")

    def coverage_at(self, risk: float) -> float:
        """The largest share of items that can be kept with at most this share of errors among them."""
        kept = np.flatnonzero(self.risks <= risk + 1e-12)
        return float((kept[-1] + 1) / self.n) if kept.size else 0.0

    def found_by_review(self, share: float) -> float:
        """The part of what an oracle would find that reviewing the least confident floor(share * n) items finds.

        An oracle reviews errors only. NaN where there is no error, or nothing is reviewed.
        """
        reviewed = int(np.floor(round(share * self.n, 9)))
        all_errors = self.errors[-1] if self.n else 0.0
        possible = min(float(reviewed), float(all_errors))
        return float((all_errors - self.errors[self.n - reviewed]) / possible) if possible else float("nan")

    def points(self, at_most: int = 200) -> list[tuple[float, float]]:
        """(coverage, risk) for drawing, evenly spread over the coverage, the last one at 1."""
        if not self.n:
            return []
        taken = np.unique(np.linspace(1, self.n, min(self.n, at_most)).round().astype(np.int64))
        return [(float(k / self.n), float(self.errors[k] / k)) for k in taken]


def risk_coverage(confidence: npt.NDArray[np.floating[Any]], ok: npt.NDArray[Any]) -> RiskCoverage:
    """The curve of `confidence` (n,), NaN where there is none, and `ok` (n,): boolean, or 1 minus a loss in [0, 1].

    Raises:
        ValueError: they differ in length.
    """
    claims, wrong = np.asarray(confidence, np.float64), 1.0 - np.asarray(ok, np.float64)
    if claims.shape != wrong.shape or claims.ndim != 1:
        raise ValueError(f"confidences of shape {claims.shape} for outcomes of shape {wrong.shape}")
    ranks = np.where(np.isnan(claims), -np.inf, claims)
    order = np.argsort(-ranks, kind="stable")
    ranked = ranks[order]
    cumulated = np.concatenate([[0.0], np.cumsum(wrong[order])])
    # inside a stretch of equal confidences, the expected errors grow evenly
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1 if ranked.size else np.empty(0, np.int64)
    knots = np.concatenate([[0], last])
    errors = np.interp(np.arange(len(claims) + 1), knots, cumulated[knots])
    return RiskCoverage(errors, claims[order])
