"""What does a test do when a server's program is not installed? It skips and says how to install it, or fails."""

import os
import shutil

import pytest


def require_program(name: str, install: str) -> str:
    """The path of the program `name`; without it the test is skipped, or fails where WINNOW_REQUIRE_SERVERS=1."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if path is not None:
        return path
    message = f"{name} is not installed; install it: {install}"
    if os.environ.get("WINNOW_REQUIRE_SERVERS") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
