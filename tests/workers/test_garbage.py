"""Garbage is not looked for while models come; what only holds itself can be let go of all the same."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from winnow_workers.garbage import look_through_all, not_looked_for


class Knot:
    """An object that holds itself, as a network and what feeds it do."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    gc.unfreeze()  # another test may have had models
    yield
    gc.unfreeze()


def test_not_looked_for__what_comes_in_there_stays() -> None:
    looked: list[str] = []
    told = gc.callbacks
    told.append(note := lambda phase, _: looked.append(phase))
    try:
        with not_looked_for():
            seen = weakref.ref(Knot())
            made: list[list[int]] = [[] for _ in range(100_000)]  # a hundred times what calls the collector
        del made
    finally:
        told.remove(note)
    assert looked == []
    assert gc.isenabled()
    gc.collect()
    assert seen() is not None


def test_not_looked_for__keeps_garbage_once_only() -> None:
    with not_looked_for():
        pass
    seen = weakref.ref(Knot())
    with not_looked_for():
        pass
    gc.collect()
    assert seen() is None


def test_not_looked_for__ends_with_an_error() -> None:
    with pytest.raises(ValueError, match="no model"), not_looked_for():
        raise ValueError("no model")
    assert gc.isenabled()


def test_look_through_all__frees_what_came_while_nobody_looked() -> None:
    with not_looked_for():
        seen = weakref.ref(Knot())
    look_through_all()
    assert seen() is None
