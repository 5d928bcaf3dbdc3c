"""Does agreement count equal choices, and how far vectors turn?"""

import numpy as np
import pytest

from winnow_workers.models.agreement import agreements, overall

LOGITS = np.array([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 5.0, 1.0]])


def test_agreements__labels() -> None:
    other = LOGITS * 2 + 1
    assert agreements(LOGITS, other, "choice").tolist() == [1, 1, 1, 1]
    other[1] = [0.0, 9.0, 0.0]
    each = agreements(LOGITS, other, "choice")
    assert each.tolist() == [1, 0, 1, 1]
    assert overall(each, "choice") == 0.75


def test_agreements__per_pixel() -> None:
    maps = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    other = maps.copy()
    other[0, :, :2] = -other[0, :, :2]  # the largest is now the smallest, in half the rows
    assert agreements(maps, other, "choice").tolist() == [0.5, 1]


def test_agreements__vectors_by_their_lowest_cosine() -> None:
    reference, other = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[5.0, 0.0], [3.0, 4.0]])
    each = agreements(reference, other, "direction")
    assert each == pytest.approx([1.0, 0.6])
    assert overall(each, "direction") == pytest.approx(0.6)
    assert agreements(reference, -other, "direction") == pytest.approx([0.0, 0.0])


def test_agreements__features_of_many_positions() -> None:
    reference = np.zeros((1, 2, 1, 2))
    reference[0, 0] = 1
    other = reference.copy()
    other[0, :, 0, 1] = [0.0, 1.0]
    assert agreements(reference, other, "direction") == pytest.approx([0.5])


def test_agreements__zero_vectors() -> None:
    zeros, ones = np.zeros((1, 3)), np.ones((1, 3))
    assert agreements(zeros, zeros, "direction").tolist() == [1]
    assert agreements(zeros, ones, "direction").tolist() == [0]


@pytest.mark.parametrize("compares", ["choice", "direction"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_agreements__what_is_not_finite_agrees_with_nothing(compares: str, value: float) -> None:
    broken = LOGITS.copy()
    broken[2, 0] = value
    assert agreements(LOGITS, broken, compares).tolist() == pytest.approx([1, 1, 0, 1])  # type: ignore[arg-type]
    assert agreements(broken, broken, compares)[2] == 0  # type: ignore[arg-type]


def test_agreements__other_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 2\)"):
        agreements(LOGITS, LOGITS[:, :2], "choice")
    with pytest.raises(ValueError, match="cannot be compared"):
        agreements(LOGITS[:0], LOGITS[:0], "choice")
