"""Where does Winnow keep things on this machine? Folders and the ledger, from the environment."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from winnow_jobs.spec_source import PLACEHOLDER
from winnow_storage.errors import SpecError

if TYPE_CHECKING:
    from winnow_storage.ledger import Ledger


def data_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The user's data folder for Winnow ($XDG_DATA_HOME/winnow)."""
    found = os.environ if environ is None else environ
    base = found.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "winnow"


def registry_uri(environ: Mapping[str, str] | None = None) -> str:
    """Where models are registered unless the spec says: $WINNOW_REGISTRY, or the user's data folder."""
    found = os.environ if environ is None else environ
    return found.get("WINNOW_REGISTRY") or str(data_folder(found))


def ledger_of(url: str | None) -> "Ledger":
    """The ledger of a spec (its `ledger` key with ${NAME} filled in), or this machine's.

    Raises:
        LedgerError: it cannot be opened.
    """
    from winnow_storage.ledger import default_ledger_url, open_ledger  # what it imports takes a third of a second

    if url is None:
        return open_ledger(default_ledger_url(os.environ))
    return open_ledger(fill_in(url))


def fill_in(text: str) -> str:
    """Put the environment's values into `${NAME}`.

    Raises:
        SpecError: a variable that is not set.
    """

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise SpecError(f"the environment variable {name} is not set", hint=f"export {name}=...")
        return os.environ[name]

    return PLACEHOLDER.sub(replace, text)
