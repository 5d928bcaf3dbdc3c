"""Where does this machine keep what it would otherwise fetch or work out again? Below `$XDG_CACHE_HOME/winnow`."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where weights are cached, by sha256."""
    return _root() / "models"


def names_folder() -> Path:
    """Where the names that a model library knows are cached, by library and version."""
    return _root() / "names"


def batch_sizes_folder() -> Path:
    """Where the batch sizes that were measured on this machine's devices are remembered."""
    return _root() / "batch_sizes"


def _root() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "winnow"
