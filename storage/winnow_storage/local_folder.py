"""Is what ails a file its own, or its folder's? A mount that is gone leaves an empty folder, not a missing file."""

import os
from enum import StrEnum
from pathlib import Path


class Folder(StrEnum):
    """What the folder of a file says of the file's failure."""

    LISTED = "listed"  # other names stand in it: the failure is the file's own
    LOST = "lost"  # it is gone, or empty as a mount point is whose mount is gone: nothing is known of the file
    CLOSED = "closed"  # this user may not list it


def folder_of(path: str) -> tuple[Path, Folder]:
    """The folder in which the file `path`, all links followed, stands or stood; and what it says.

    A folder that was deleted or emptied on purpose looks like a mount that is gone. Both are LOST: whoever then takes
    the file's failure for one that passes loses nothing, as the next listing leaves out what was deleted; whoever
    takes it for final loses every file of a mount that comes back.
    """
    folder = Path(os.path.realpath(path)).parent
    try:
        with os.scandir(folder) as names:
            return folder, Folder.LOST if next(names, None) is None else Folder.LISTED
    except (FileNotFoundError, NotADirectoryError):
        return folder, Folder.LOST
    except OSError:
        return folder, Folder.CLOSED
