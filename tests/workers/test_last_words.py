"""What a process leaves when it ends itself, and that it leaves nothing when it is ended."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from winnow_workers import last_words
from winnow_workers.last_words import LastWords, take_last_words

PROGRAM = """
import ctypes, os, signal, sys, time
from winnow_workers.deadline import HangTimer
from winnow_workers.last_words import LastWords
words = LastWords("me")
{end}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("ctypes.string_at(0)", "Segmentation fault"),
        ("os.abort()", "Aborted"),
        ("HangTimer(words.file.fileno()).step(0.1); ctypes.PyDLL(None).sleep(60)", "no step in time"),
        ("os.kill(os.getpid(), signal.SIGKILL)", None),
        ("sys.exit(1)", None),
    ],
)
def test_take_last_words__of_a_process_that_ended(end: str, said: str | None) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM.format(end=end)], check=False, timeout=60)
    assert take_last_words("me") == said
    assert take_last_words("me") is None  # they are taken once


def test_take_last_words__of_nobody() -> None:
    assert take_last_words("nobody") is None


def test_last_words__removes_what_nobody_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faulthandler.enable", lambda _: None)
    folder = tmp_path / f"winnow-last-words-{os.getuid()}"
    folder.mkdir()
    old, new = folder / "old", folder / "new"
    for path, age_s in ((old, 2 * last_words.KEPT_S), (new, 60.0)):
        path.touch()
        os.utime(path, (time.time() - age_s,) * 2)
    LastWords("me").file.close()
    assert sorted(path.name for path in folder.iterdir()) == ["me", "new"]
