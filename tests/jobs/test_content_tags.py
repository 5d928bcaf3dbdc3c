"""Which items seem to be of the same bytes, and how little of them is read to tell."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from winnow_jobs import content_tags
from winnow_jobs.content_tags import END_BYTES, NO_TAG, tags_of
from winnow_jobs.plan import DUE
from winnow_storage.local_store import LocalStore
from winnow_workers.throttle import Throttle

FREE = Throttle(None, None)


def files(folder: Path, contents: Mapping[str, bytes]) -> pa.RecordBatch:
    """The due items of a folder."""
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return items({(folder / name).as_uri(): (f"v-{name}", len(data)) for name, data in contents.items()})


def items(listed: Mapping[str, tuple[str, int | None]]) -> pa.RecordBatch:
    rows = [
        {"item_id": uri, "key": uri, "uri": uri, "version": version, "bytes": size, "tasks": ["kind"]}
        for uri, (version, size) in listed.items()
    ]
    return pa.RecordBatch.from_pylist(rows, schema=DUE)


def groups(batch: pa.RecordBatch, *, everyones: bool = False) -> list[int]:
    """Numbers that are the same where tags are; 0 is no tag."""
    tags = tags_of(lambda: [batch.slice(0, 2), batch.slice(2)], FREE, everyones=everyones).tolist()
    numbers = {tag: number for number, tag in enumerate(dict.fromkeys([NO_TAG, *tags]))}
    return [numbers[tag] for tag in tags]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of every range that is read of a folder."""
    lengths, plain = list[int](), LocalStore.get_range

    def noting(self: LocalStore, key: str, start: int, length: int) -> bytes:
        lengths.append(length)
        return plain(self, key, start, length)

    monkeypatch.setattr(LocalStore, "get_range", noting)
    return lengths


def test_tags_of__files_are_read_as_far_as_it_takes_to_tell_them_apart(
    tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_tags, "BLOCK_BYTES", 3 * END_BYTES)
    long = bytes(10 * END_BYTES)
    middle = long[: 5 * END_BYTES] + b"x" + long[5 * END_BYTES + 1 :]
    of_size = {"alone": b"y" * 7, "start": b"x" + long[1:], "end": long[:-1] + b"x", "empty": b"", "more": b""}
    assert groups(files(tmp_path, of_size)) == [0] * 5
    assert sorted(read) == [END_BYTES] * 4
    read.clear()
    alike = {"a": long, "b": middle, "c": long, "d": middle, "e": b"x" + long[1:]}
    assert groups(files(tmp_path, alike)) == [1, 2, 1, 2, 0]
    assert sum(length for length in read if length > END_BYTES) == 4 * 9 * END_BYTES
    read.clear()
    assert groups(files(tmp_path, {"a": long, "b": b"short", "c": b""}), everyones=True) == [1, 2, 0]
    assert sorted(read) == [5, END_BYTES, *[3 * END_BYTES] * 3]


def test_tags_of__objects_by_their_etags(read: list[int]) -> None:
    listed = {"s3://b/0": ("e", 7), "s3://b/1": ("e", 8), "s3://b/2": ("f", 7), "s3://c/3": ("e", 7)}
    assert groups(items(listed)) == [1, 0, 0, 1]
    assert groups(items(listed), everyones=True) == [1, 2, 3, 1]
    assert read == []


def test_tags_of__what_cannot_be_told_has_none(tmp_path: Path) -> None:
    listed = {
        "s3://b/0": ("absent", 7), "s3://b/1": ("absent", 7), "s3://b/2": ("e", None), "s3://b/3": ("e", None),
        (tmp_path / "gone").as_uri(): ("v", 7), (tmp_path / "lost").as_uri(): ("v", 7),
        "tar+s3://b/a.tar#0-7": ("e", 7), "tar+s3://b/a.tar#9-7": ("e", 7),
    }  # fmt: skip
    assert groups(items(listed), everyones=True) == groups(items(listed)) == [0] * 8


def test_tags_of__nothing() -> None:
    assert tags_of(list, FREE, everyones=True).tolist() == []
