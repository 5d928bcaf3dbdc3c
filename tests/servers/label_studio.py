"""How does a test get a real Label Studio? The server that the demo starts, in a scratch folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from winnow_jobs.demo.label_studio_server import LabelStudioServer, label_studio_server

INSTALL = "make setup"
_BESIDE = Path(__file__).resolve().parents[2] / ".venv-label-studio" / "bin" / "label-studio"


def label_studio_executable() -> Path:
    """The program named by WINNOW_LABEL_STUDIO, or the one that `make setup` installs; without it the test skips.

    Where WINNOW_REQUIRE_SERVERS=1 the test fails instead.
    """
    program = Path(os.environ.get("WINNOW_LABEL_STUDIO", _BESIDE))
    if program.is_file():
        return program
    message = f"Label Studio is not installed ({program}); install it: {INSTALL}"
    if os.environ.get("WINNOW_REQUIRE_SERVERS") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@contextlib.contextmanager
def running_label_studio(folder: Path) -> Iterator[LabelStudioServer]:
    """A fresh server whose document root is `folder`; it may reach stores on loopback. 30 to 50 s until it is up."""
    with label_studio_server(
        label_studio_executable(), folder / "label-studio", document_root=folder, allow_private_addresses=True
    ) as server:
        yield server
