"""How did a process end itself? Words that C writes into a file beside it, for whoever comes after it.

A crash and a hang leave them; a kill from outside, a lost machine and an orderly exit do not. They accuse a shard and
decide nothing about an item: that takes deaths of fresh children (`quarantine`).
"""

import contextlib
import faulthandler
import os
import sys
import tempfile
import time
from pathlib import Path

KEPT_S = 86_400.0  # a file whose process was killed stays; whoever comes after that removes it
HUNG = "Timeout"
FATAL = "Fatal Python error: "


class LastWords:
    """The file of this process, under a name that its successor knows."""

    def __init__(self, name: str) -> None:
        """Crashes write there from now on.

        Raises:
            OSError: the folder for temporary files cannot be written to, or belongs to somebody else.
        """
        folder = _folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to somebody else")
        _sweep(folder)
        self.file = (folder / name).open("wb", buffering=0)
        faulthandler.enable(self.file)


def take_last_words(name: str) -> str | None:
    """How the process of that name ended itself, in a few words; what else it said goes to stderr.

    None if it said nothing, or not on this machine.
    """
    place = _folder() / name
    try:
        text = place.read_text(encoding="utf-8", errors="replace")
        place.unlink()
    except OSError:
        return None
    sys.stderr.write(text)
    first = text.partition("\n")[0]
    if first.startswith(HUNG):
        return "no step in time"
    return first.removeprefix(FATAL) if first.startswith(FATAL) else None


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"winnow-last-words-{os.getuid()}"


def _sweep(folder: Path) -> None:
    oldest = time.time() - KEPT_S
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
