"""Which files did writers leave unfinished in a folder when they died? Temporary ones that nobody holds any more."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from winnow_storage.uri import Location

TEMPORARY = ".tmp-"  # files whose name starts so are unfinished: no store lists them
OLD_S = 3600.0  # a writer locks its file in the moment after it made it


def hold(descriptor: int) -> None:
    """Say that the writer of this file lives, until it is closed; the lock ends with the process at the latest."""
    with contextlib.suppress(OSError):  # a file system without locks: then nobody can tell, and nobody removes
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def unfinished_files(root: Location, *, now_s: float) -> Iterator[tuple[Path, int]]:
    """The files below a folder whose writers are gone, with their sizes in bytes; none in any other store.

    `now_s` is the time since the epoch.
    """
    if root.scheme != "file":
        return
    for folder, _, names in os.walk(root.path):
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(TEMPORARY) and (size := _size_if_left(path, now_s)) is not None:
                yield path, size


def _size_if_left(path: Path, now_s: float) -> int | None:
    """None while it is young or held, and where that cannot be told."""
    with contextlib.suppress(OSError), path.open("r+b") as file:
        found = os.fstat(file.fileno())
        if now_s - found.st_mtime >= OLD_S:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)  # over NFS only of files open for writing
            return found.st_size
    return None
