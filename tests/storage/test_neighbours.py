"""Does the exact search find what comparing with every vector finds?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.clouds import brute_force, clustered, table_of, vectors_of
from winnow_storage import neighbours
from winnow_storage.errors import UsageError
from winnow_storage.ids import item_id
from winnow_storage.neighbours import nearest


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 5), st.integers(1, 70), st.integers(1, 25), st.integers(0, 10_000), st.booleans()
)
def test_nearest__as_brute_force(count: int, width: int, k: int, rows: int, seed: int, half: bool) -> None:
    # small whole numbers make ties, which come by key
    rng = np.random.default_rng(seed)
    stored = rng.integers(-2, 3, (count, width)).astype(np.float32)
    query = rng.normal(size=(2, width))
    vectors = vectors_of(table_of(stored, dtype="float16" if half else "float32"), rows=rows)
    for one, asked in zip(nearest(vectors, query, k), query, strict=True):
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = np.round(np.nan_to_num(brute_force(stored, asked)), 6)
        order = np.lexsort((np.arange(count), -expected))[:k]
        assert one.scores.tolist() == pytest.approx(expected[order].tolist(), abs=2e-6)
        assert one.rows["key"].to_pylist() == [f"{place:06d}.jpg" for place in order]
        assert one.among == count


def test_nearest__the_size_of_blocks_decides_nothing() -> None:
    stored = np.repeat(clustered(300, 48), 3, axis=0)  # three of each, with equal scores
    table = table_of(stored, dtype="float16")
    found = [nearest(vectors_of(table, rows=rows), stored[:5], 7) for rows in (7, 100, 900)]
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert one.rows.equals(same.rows)
            assert one.scores.tolist() == same.scores.tolist()


def test_nearest__how_many_queries_are_compared_at_once_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = np.repeat(clustered(100, 48), 3, axis=0)
    vectors = vectors_of(table_of(stored), rows=50)
    together = nearest(vectors, stored[:40], 5)
    monkeypatch.setattr(neighbours, "TOGETHER", 7)
    for one, same in zip(nearest(vectors, stored[:40], 5), together, strict=True):
        assert one.rows.equals(same.rows)
        assert one.scores.tolist() == same.scores.tolist()


def test_nearest__what_is_left_out() -> None:
    stored = clustered(50, 8)
    own = item_id("c", "000007.jpg")
    (found,) = nearest(vectors_of(table_of(stored)), stored[7:8], 10, leave_out=[own])
    assert len(found.scores) == 10
    assert own not in found.rows["item_id"].to_pylist()


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_nearest__a_vector_that_is_not_finite_hides_no_other(number: float) -> None:
    stored = clustered(50, 8)
    damaged = stored.copy()
    damaged[3, 2] = number
    (found,) = nearest(vectors_of(table_of(damaged)), stored[7:8], 60)
    assert (found.among, found.rows["key"][0].as_py()) == (49, "000007.jpg")
    assert len(found.scores) == 49
    assert "000003.jpg" not in found.rows["key"].to_pylist()
    (none,) = nearest(vectors_of(table_of(np.full((3, 8), number, np.float32))), stored[7:8], 5)
    assert (none.among, len(none.scores)) == (0, 0)


def test_nearest__another_width() -> None:
    with pytest.raises(UsageError, match="the query has 4 numbers, the vectors have 8"):
        nearest(vectors_of(table_of(clustered(5, 8))), np.ones((1, 4)), 3)
