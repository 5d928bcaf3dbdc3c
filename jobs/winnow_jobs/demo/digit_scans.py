"""Which images are the demo's second job about? Scans of handwritten digits, real ones, and what is true of each.

They are scikit-learn's digits, enlarged, in an order drawn by a seed: a few to begin with, those of the job, and those
that the job never sees.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from winnow_jobs.demo.image_files import KINDS, encode
from winnow_jobs.demo.sources import Digits, digits

SIDE_PX = 64
_GROUP = 201  # separates this group's random numbers from the others'


@dataclass(frozen=True, slots=True)
class Scans:
    """Some of the digits, by key."""

    files: Mapping[str, bytes]
    labels: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """The images into a folder, which is made."""
        folder.mkdir(parents=True)
        for key, data in self.files.items():
            (folder / key).write_bytes(data)

    def truth_csv(self) -> str:
        """As `winnow evaluate --truth` reads it."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["key", "label"])
        rows.writerows(self.labels.items())
        return text.getvalue()


def split_scans(*, first_of_each: int, images: int, hidden: int, seed: int = 0) -> tuple[Scans, Scans, Scans]:
    """(so many of each digit, `images` others, `hidden` others): no image is in two of them."""
    every = _every_digit()
    order = np.random.default_rng([seed, _GROUP]).permutation(len(every.labels)).tolist()
    first = list(_first_of_each(order, every, first_of_each))
    rest = [place for place in order if place not in set(first)]
    if images + hidden > len(rest):
        raise ValueError(f"{images + hidden} images are wanted, there are {len(rest)}")
    return _scans(every, first), _scans(every, rest[:images]), _scans(every, rest[len(rest) - hidden :])


def _every_digit() -> Digits:
    """Those of all parts: what is told apart here are vectors, which no model of the demo has made."""
    parts = [digits("training"), digits("held_out"), digits("evaluation")]
    return Digits(np.concatenate([one.inks for one in parts]), np.concatenate([one.labels for one in parts]))


def _first_of_each(order: Sequence[int], every: Digits, count: int) -> Iterator[int]:
    seen: Counter[int] = Counter()
    for place in order:
        label = int(every.labels[place])
        if seen[label] < count:
            seen[label] += 1
            yield place


def _scans(every: Digits, places: Sequence[int]) -> Scans:
    named = {f"scan_{place:04d}.png": place for place in places}
    return Scans(
        {key: _drawn(every, place) for key, place in named.items()},
        {key: str(every.labels[place]) for key, place in named.items()},
    )


def _drawn(every: Digits, place: int) -> bytes:
    """Dark ink on white paper."""
    paper = Image.fromarray((255 * (1 - every.inks[place])).astype(np.uint8))
    large = paper.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    return encode(np.asarray(large.convert("RGB")), KINDS["png_grey"])
