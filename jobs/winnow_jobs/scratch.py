"""Where is set aside what is too much for memory? In a temporary folder, with an error that says if it is full."""

import contextlib
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

from winnow_storage.errors import StoreError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def scratch(what: str, *, item_bytes: int) -> Iterator[Path]:
    """An empty folder for `what` (such as "plan"), of which an item may take about so many bytes; removed at the end.

    Raises:
        StoreError: there is no room for it.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f"winnow-{what}-") as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StoreError(
            f"the temporary folder {tempfile.gettempdir()} has no room for the {what}: {error.strerror or error}",
            hint=f"free some space, or set TMPDIR to a folder with more (about {item_bytes} bytes an item at most)",
        ) from error
