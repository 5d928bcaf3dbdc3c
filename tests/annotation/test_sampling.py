"""Tests of random draws."""

from winnow_annotation.sampling import drawn, position


def test_drawn__takes_about_its_share_and_a_larger_share_takes_the_same_ones_too() -> None:
    names = [f"item-{n}" for n in range(4000)]
    tenth = {name for name in names if drawn("seed", name, share=0.1)}
    assert 330 < len(tenth) < 470  # 400 expected, standard deviation 19
    assert tenth < {name for name in names if drawn("seed", name, share=0.2)}
    assert tenth != {name for name in names if drawn("other", name, share=0.1)}


def test_drawn__nothing_of_zero_and_all_of_one() -> None:
    assert not any(drawn("s", str(n), share=0.0) for n in range(100))
    assert all(drawn("s", str(n), share=1.0) for n in range(100))


def test_position__keeps_names_apart() -> None:
    assert position("s", "a", "bc") != position("s", "ab", "c")
