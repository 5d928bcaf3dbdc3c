"""Are the groups of near-duplicates those that comparing every pair gives?"""

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.clouds import brute_force, clustered, table_of, vectors_of
from winnow_storage.duplicate_threshold import find_threshold
from winnow_storage.errors import UsageError
from winnow_storage.near_duplicates import GROUPS, near_duplicates


def naive_groups(stored: np.ndarray, threshold: float) -> set[frozenset[int]]:
    parent = list(range(len(stored)))

    def root(one: int) -> int:
        while parent[one] != one:
            one = parent[one]
        return one

    for one, other in combinations(range(len(stored)), 2):
        if round(float(brute_force(stored[other : other + 1], stored[one])[0]), 6) >= threshold:
            parent[root(other)] = root(one)
    groups: dict[int, set[int]] = {}
    for one in range(len(stored)):
        groups.setdefault(root(one), set()).add(one)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def found_groups(members: pa.Table) -> set[frozenset[int]]:
    groups: dict[int, set[int]] = {}
    for row in members.to_pylist():
        groups.setdefault(row["group"], set()).add(int(row["key"][:6]))
    return {frozenset(group) for group in groups.values()}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40), st.integers(2, 4), st.sampled_from([0.9, 0.98, 1.0]), st.integers(1, 25), st.integers(0, 999)
)
def test_near_duplicates__as_every_pair(count: int, width: int, threshold: float, rows: int, seed: int) -> None:
    stored = np.random.default_rng(seed).integers(1, 6, (count, width)).astype(np.float32)
    vectors = vectors_of(table_of(stored), rows=rows)
    for memory in (1, 1 << 20):  # block by block, and all at once
        found = near_duplicates(vectors, threshold, memory_bytes=memory)
        assert found_groups(found.members) == naive_groups(stored, threshold)
        assert found.vectors == count
        assert found.groups == len(naive_groups(stored, threshold))
        assert found.members.schema == GROUPS


def test_near_duplicates__every_injected_pair_and_nothing_else() -> None:
    # 3,000 vectors over several tiles; of every tenth a slightly changed copy
    stored = clustered(3000, 64, spread=1.0)
    copies = stored[::10] + np.random.default_rng(1).normal(size=(300, 64)).astype(np.float32) * 0.02
    vectors = vectors_of(table_of(np.concatenate([stored, copies]), dtype="float16"))
    found = near_duplicates(vectors, 0.98)
    assert found_groups(found.members) == {frozenset({10 * place, 3000 + place}) for place in range(300)}


def test_near_duplicates__the_representative_has_the_most_pixels() -> None:
    stored = np.array([[1, 0], [1, 0.01], [0, 1], [1, 0.02], [0.01, 1]], np.float32)
    table = table_of(stored)
    sizes = {"width": [10, 20, 5, 20, 5], "height": [10, 20, 5, 20, 5], "bytes": [9, 5, 7, 8, 7]}
    for name, values in sizes.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values, table.schema.field(name).type))
    members = near_duplicates(vectors_of(table), 0.99).members.to_pylist()
    # 1 and 3 have as many pixels, 3 has more bytes; of 2 and 4, which are alike, the first key
    assert [(one["group"], one["key"][5], one["is_representative"]) for one in members] == [
        (1, "3", True), (1, "0", False), (1, "1", False), (2, "2", True), (2, "4", False),
    ]  # fmt: skip
    assert [one["size"] for one in members] == [3, 3, 3, 2, 2]
    assert members[0]["score"] == 1.0
    assert members[1]["score"] == pytest.approx(float(brute_force(stored[:1], stored[3])[0]), abs=1e-6)


def test_near_duplicates__of_one_image_many_times() -> None:
    stored = np.concatenate([np.tile(clustered(1, 16), (5000, 1)), clustered(10, 16, seed=3)])
    found = near_duplicates(vectors_of(table_of(stored)), 0.9999)
    assert (found.groups, found.members.num_rows) == (1, 5000)


def test_near_duplicates__none() -> None:
    empty = near_duplicates(vectors_of(table_of(np.empty((0, 4), np.float32))), 0.98)
    assert (empty.groups, empty.vectors, empty.members.schema) == (0, 0, GROUPS)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_near_duplicates__a_threshold_that_is_none(threshold: float) -> None:
    with pytest.raises(UsageError, match="is no cosine above 0"):
        near_duplicates(vectors_of(table_of(clustered(3, 4))), threshold)


def test_find_threshold__between_duplicates_and_the_others() -> None:
    stored = clustered(800, 32, spread=1.0)
    copies = stored[:40] + np.random.default_rng(1).normal(size=(40, 32)).astype(np.float32) * 0.02
    both = np.concatenate([stored, copies])
    found = find_threshold(vectors_of(table_of(both)))
    assert found is not None
    closest = max(brute_force(stored[:300], stored[place])[:300][np.arange(300) != place].max() for place in range(300))
    farthest = min(float(brute_force(copies[place : place + 1], stored[place])[0]) for place in range(40))
    assert closest < found < farthest
    assert found_groups(near_duplicates(vectors_of(table_of(both)), found).members) == {
        frozenset({place, 800 + place}) for place in range(40)
    }


@pytest.mark.parametrize("count", [0, 1, 2, 5, 500])
def test_find_threshold__nothing_stands_apart(count: int) -> None:
    assert find_threshold(vectors_of(table_of(clustered(count, 32, spread=1.0)))) is None
