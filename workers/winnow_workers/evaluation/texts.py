"""How far is a text from the true one? Edit distance in characters and in words, after a stated normalisation."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

_PUNCTUATION = re.compile(r"[^\w\s]|_")


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What is done to both texts before they are compared.

    `unicode`: composed (NFC), compatible forms made equal (NFKC), or none. `space`: runs of white space, line breaks
    included, are one space and none stands at the ends (squeeze); all white space is removed (remove); or it counts as
    it is (keep). `fold_case` makes case equal, `drop_punctuation` removes what is neither letter, digit nor space.
    """

    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    space: Literal["squeeze", "remove", "keep"] = "squeeze"
    fold_case: bool = False
    drop_punctuation: bool = False

    def apply(self, text: str) -> str:
        """The text as it is compared."""
        made = text if self.unicode == "none" else unicodedata.normalize(self.unicode, text)
        if self.fold_case:
            made = made.casefold()
        if self.drop_punctuation:
            made = _PUNCTUATION.sub("", made)
        if self.space == "squeeze":
            return " ".join(made.split())
        return "".join(made.split()) if self.space == "remove" else made


@dataclass(frozen=True, slots=True)
class TextErrors:
    """Of one text: edits (insertions, deletions, substitutions) and the length of the truth, in either unit."""

    characters: int
    true_characters: int
    words: int
    true_words: int

    @property
    def is_exact(self) -> bool:
        """Whether every character is right."""
        return self.characters == 0


def text_errors(true: str, read: str, normalisation: Normalisation) -> TextErrors:
    """Levenshtein distances after `normalisation`; words are what stands between white space."""
    from rapidfuzz.distance import Levenshtein

    wanted, got = normalisation.apply(true), normalisation.apply(read)
    wanted_words, got_words = wanted.split(), got.split()
    return TextErrors(
        Levenshtein.distance(wanted, got),
        len(wanted),
        Levenshtein.distance(wanted_words, got_words),
        len(wanted_words),
    )


def error_rate(edits: Sequence[int] | npt.NDArray[np.int64], lengths: Sequence[int] | npt.NDArray[np.int64]) -> float:
    """All edits over all of the truth's length: above 1 if far too much was read; NaN without any true text."""
    total = int(np.sum(lengths))
    return float(np.sum(edits) / total) if total else float("nan")
