"""How much do several models differ about an image? By how much they would say if one asked which of them is right.

Query by committee, measured as BALD does (Houlsby, Huszár, Ghahramani, Lengyel, arXiv:1112.5745): the entropy of the
mean of the members' probabilities, less the mean of their entropies. Models that are all unsure in the same way differ
by nothing; models that are each sure of something else differ most.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

LEAST_MEMBERS = 2


def disagreement(tops: Sequence[pa.ListArray]) -> Numbers:
    """(n,) in nats, from 0 to log(members); NaN where fewer than two members say anything.

    `tops` has of each member (n,) lists of {label, score}: its likeliest classes with their probabilities. What these
    leave of 1 counts as one more class.
    """
    labels = pa.concat_arrays([_part(top, "label") for top in tops]).unique()
    count = len(tops[0])
    chances = [_chances(top, labels, count) for top in tops]
    says = np.stack([pc.greater(pc.fill_null(pc.list_value_length(top), 0), 0).to_numpy(zero_copy_only=False)
                     for top in tops])  # fmt: skip
    members = says.sum(axis=0)
    there = np.maximum(members, 1)
    mean = sum(chance * said[:, None] for chance, said in zip(chances, says, strict=True)) / there[:, None]
    own = sum(_entropy(chance) * said for chance, said in zip(chances, says, strict=True)) / there
    found: Numbers = np.maximum(_entropy(mean) - own, 0.0)
    return np.where(members >= LEAST_MEMBERS, found, np.nan)


def _chances(top: pa.ListArray, labels: pa.StringArray, count: int) -> Numbers:
    """(n, labels + 1) the probability of each label, and of everything else."""
    found = np.zeros((count, len(labels) + 1))
    rows = pc.list_parent_indices(top).to_numpy(zero_copy_only=False)
    columns = pc.index_in(_part(top, "label"), labels).to_numpy(zero_copy_only=False)
    scores = pc.fill_null(_part(top, "score").cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    np.add.at(found, (rows, columns), np.clip(scores, 0.0, 1.0))
    total = found.sum(axis=1)
    found /= np.maximum(total, 1.0)[:, None]  # float32 may add up to a little more
    found[:, -1] = np.maximum(1.0 - total, 0.0)
    return found


def _part(top: pa.ListArray, name: str) -> pa.Array:
    return pc.struct_field(pc.list_flatten(top), name)


def _entropy(chances: Numbers) -> Numbers:
    """(n,) of (n, classes)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(chances > 0, -chances * np.log(chances), 0.0)
    found: Numbers = terms.sum(axis=1)
    return found
