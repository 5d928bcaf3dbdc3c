"""Is a lost mount told from a file that is gone?"""

import os
import tempfile
from pathlib import Path

import pytest

from winnow_storage.local_folder import Folder, folder_of


@pytest.mark.parametrize(
    ("path", "folder", "state"),
    [
        ("full/gone.jpg", "full", Folder.LISTED),
        ("full/a.jpg", "full", Folder.LISTED),
        ("empty/gone.jpg", "empty", Folder.LOST),
        ("empty/below/it/gone.jpg", "empty/below/it", Folder.LOST),
        ("full/deleted/gone.jpg", "full/deleted", Folder.LOST),
        ("full/a.jpg/below.jpg", "full/a.jpg", Folder.LOST),
        ("full/link.jpg", "empty/mount", Folder.LOST),
    ],
)
def test_folder_of__what_it_says(tmp_path: Path, path: str, folder: str, state: Folder) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full/a.jpg").write_bytes(b"")
    (tmp_path / "full/link.jpg").symlink_to(tmp_path / "empty/mount/a.jpg")
    assert folder_of(str(tmp_path / path)) == (tmp_path.resolve() / folder, state)


def test_folder_of__one_that_may_not_be_listed() -> None:
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        folder = Path(outer).resolve() / "closed"
        folder.mkdir(mode=0o0)
        user = os.geteuid()
        try:
            if user == 0:  # rights do not bind root: be nobody for a moment
                os.seteuid(65534)
            assert folder_of(str(folder / "a.jpg")) == (folder, Folder.CLOSED)
        finally:
            os.seteuid(user)
