"""How does a test get a real Label Studio? The server that the demo starts, in a scratch folder."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.postgres import PostgresServer
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


def label_studio_on(postgres: PostgresServer, folder: Path) -> Path:
    """A program below `folder` that starts Label Studio on a new database there, as teams have it."""
    settings = {
        "DJANGO_DB": "default",
        "POSTGRE_NAME": postgres.create_database(),
        "POSTGRE_USER": postgres.user,
        "POSTGRE_PASSWORD": postgres.password,
        "POSTGRE_HOST": "127.0.0.1",
        "POSTGRE_PORT": str(postgres.port),
    }
    program = folder / "label-studio-on-postgres"
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    program.write_text("\n".join(["#!/bin/sh", *lines, f'exec {shlex.quote(str(label_studio_executable()))} "$@"', ""]))
    program.chmod(0o700)
    return program


@contextlib.contextmanager
def running_label_studio(folder: Path) -> Iterator[LabelStudioServer]:
    """A fresh server whose document root is `folder`; it may reach stores on loopback. 30 to 50 s until it is up."""
    with label_studio_server(
        label_studio_executable(), folder / "label-studio", document_root=folder, allow_private_addresses=True
    ) as server:
        yield server
