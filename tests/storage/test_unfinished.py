"""Which unfinished files may be removed? Those of writers that are gone, and no others."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from winnow_storage import local_store
from winnow_storage.blobs import open_store
from winnow_storage.unfinished import OLD_S, TEMPORARY, unfinished_files
from winnow_storage.uri import parse

NOW_S = 1_800_000_000.0


def left(folder: Path, *, age_s: float) -> list[str]:
    """What is left, if every unfinished file is of that age."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        os.utime(path, (NOW_S - age_s,) * 2)
    return [path.name for path, _ in unfinished_files(parse(str(folder)), now_s=NOW_S)]


def put_and_stop(folder: Path, say: Connection) -> None:
    """A writer that stands still between its synced file and the link."""

    def stand_still(temporary: Path, target: Path) -> bool:
        say.send(temporary.name)
        signal.pause()
        return False

    local_store._link = stand_still
    open_store(parse(str(folder))).put_if_absent("a/b", b"x" * 100)


def test_unfinished_files__of_a_writer_only_once_it_is_dead_and_they_are_old(tmp_path: Path) -> None:
    hear, say = multiprocessing.Pipe(duplex=False)
    writer = multiprocessing.get_context("fork").Process(target=put_and_stop, args=(tmp_path, say))
    writer.start()
    try:
        name = hear.recv()
        assert left(tmp_path, age_s=2 * OLD_S) == []
    finally:
        writer.kill()
        writer.join()
    assert left(tmp_path, age_s=OLD_S - 1) == []
    assert left(tmp_path, age_s=OLD_S) == [name]
    assert [size for _, size in unfinished_files(parse(str(tmp_path)), now_s=NOW_S)] == [100]


def test_unfinished_files__nothing_of_puts_that_ended(tmp_path: Path) -> None:
    store = open_store(parse(str(tmp_path)))
    assert store.put_if_absent("a", b"1")
    assert not store.put_if_absent("a", b"2")
    store.put("a", b"3")
    assert left(tmp_path, age_s=2 * OLD_S) == []
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("place", ["s3://bucket/out", "/nowhere/at/all"])
def test_unfinished_files__none_elsewhere(place: str) -> None:
    assert list(unfinished_files(parse(place), now_s=NOW_S)) == []
