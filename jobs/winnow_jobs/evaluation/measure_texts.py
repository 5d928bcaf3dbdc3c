"""How good are texts?"""

from typing import ClassVar

import numpy as np

from winnow_jobs.evaluation.measure import Indices, Judged, Measure, Pair, Statistic
from winnow_workers.evaluation import acceptance, texts
from winnow_workers.evaluation.acceptance import Acceptance


class OcrMeasure(Measure):
    """Errors over all of the truth's characters and words, so that long texts count more."""

    value_name: ClassVar[str] = "character error rate"

    def __init__(self, wanted: Acceptance) -> None:
        super().__init__(wanted)
        self._errors: list[texts.TextErrors] = []

    def add(self, pair: Pair) -> Judged:
        """Weighted by its length: the mean is the rate over all. Without true text the rate is NaN."""
        read = "" if pair.struct is None else pair.struct.get("full_text") or ""
        error = texts.text_errors(pair.truth.text or "", read, self.wanted.normalisation)
        self._errors.append(error)
        rate = texts.error_rate([error.characters], [error.true_characters])
        return Judged(pair.struct is not None and acceptance.text_ok(error), rate, float(error.true_characters))

    def measures(self) -> dict[str, float]:
        """Of characters and of words."""
        everything = np.arange(len(self._errors))
        return {name: rate(everything) for name, rate in self.statistics().items()}

    def statistics(self) -> dict[str, Statistic]:
        """The same of drawn items."""
        return {"character_error_rate": self._characters, "word_error_rate": self._words}

    def _characters(self, chosen: Indices) -> float:
        found = [self._errors[at] for at in chosen]
        return texts.error_rate([one.characters for one in found], [one.true_characters for one in found])

    def _words(self, chosen: Indices) -> float:
        found = [self._errors[at] for at in chosen]
        return texts.error_rate([one.words for one in found], [one.true_words for one in found])
