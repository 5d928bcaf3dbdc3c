"""Are small indexes found again, whoever wrote the table and however it grew?"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.ids import digest_value
from winnow_storage.packed import small_indexes
from winnow_storage.packed.index import Index
from winnow_storage.packed.small_indexes import KEY, SmallIndexes
from winnow_storage.uri import parse


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return open_store(parse(str(tmp_path)))


def index_of(number: int) -> Index:
    members = [(f"{page:06d}", f"page={page}", None if page % 2 else page) for page in range(number % 5)]
    return Index.of(members, "cut" if number % 3 == 0 else None)


def same(one: Index | None, other: Index) -> bool:
    return one is not None and (one.members.equals(other.members), one.damage) == (True, other.damage)


@pytest.mark.parametrize("least", [2, 1000])
def test_small_indexes__are_found_before_and_after_they_are_written(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    monkeypatch.setattr(small_indexes, "_NEW_LEAST", least)
    for first in (0, 30, 60):
        table = SmallIndexes(store)
        for number in range(first, first + 30):
            assert table.get(digest_value(number)) is None
            table.add(digest_value(number), index_of(number))
        assert all(same(table.get(digest_value(number)), index_of(number)) for number in range(first + 30))
        table.write()
    table = SmallIndexes(store)
    assert all(same(table.get(digest_value(number)), index_of(number)) for number in range(90))
    assert table.get(digest_value(90)) is None


def test_small_indexes__what_nobody_asks_for_goes_once_it_is_the_greater_part(store: BlobStore) -> None:
    table = SmallIndexes(store)
    for number in range(10):
        table.add(digest_value(number), index_of(number))
    table.write()
    for asked, left in ((6, 11), (5, 6)):
        table = SmallIndexes(store)
        for number in range(asked):
            assert table.get(digest_value(number)) is not None
        table.add(digest_value(f"new {asked}"), index_of(1))
        table.write()
        kept = SmallIndexes(store)
        names = [*range(10), "new 6", "new 5"]
        assert sum(kept.get(digest_value(name)) is not None for name in names) == left


def test_small_indexes__what_was_asked_for_before_a_write_is_kept_after_it(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in (0, 10):
        table = SmallIndexes(store)
        for number in range(10):
            table.get(digest_value(number))
            table.add(digest_value(number + first), index_of(number))
            monkeypatch.setattr(small_indexes, "_NEW_LEAST", 1 if number == 8 else 1000)
        table.write()
    kept = SmallIndexes(store)
    assert all(kept.get(digest_value(number)) is not None for number in range(20))


def test_small_indexes__nothing_new_writes_nothing(store: BlobStore) -> None:
    SmallIndexes(store).write()
    assert list(store.walk()) == []


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_small_indexes__a_damaged_table_is_an_empty_one(data: bytes) -> None:
    class Damaged:
        def get(self, key: str) -> bytes:
            assert key == KEY
            return data

    assert SmallIndexes(Damaged()).get(digest_value(1)) is None  # type: ignore[arg-type]
