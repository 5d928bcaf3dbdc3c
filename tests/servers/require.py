"""What does a test do when a server's program is not installed? It skips and says how to install it, or fails."""

import os
import shutil
from typing import NoReturn

import pytest

from winnow_storage.errors import ModelError
from winnow_workers.models.tesseract_data import TESSERACT, tesseract_digest


def require_program(name: str, install: str) -> str:
    """The path of the program `name`; without it the test is skipped, or fails where WINNOW_REQUIRE_SERVERS=1."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    return path if path is not None else _absent(f"{name} is not installed; install it: {install}")


def require_tesseract() -> None:
    """Without Tesseract and its English data the test is skipped, or fails where WINNOW_REQUIRE_SERVERS=1."""
    try:
        tesseract_digest(TESSERACT)
    except ModelError as missing:
        _absent(f"{missing.message}; install it: {missing.hint}")


def _absent(message: str) -> NoReturn:
    if os.environ.get("WINNOW_REQUIRE_SERVERS") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
