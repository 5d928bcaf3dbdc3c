"""The model libraries: light to import, whole when they are used, their names remembered."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from winnow_workers.models.cache import names_folder
from winnow_workers.models.libraries import _REVISION, names

SCRIPT = """
import sys
from winnow_workers.models import libraries
assert libraries.torchvision().models.resnet18().fc.out_features == 1000
assert "torch._dynamo" not in sys.modules
import torch
roi_align = sys.modules["torchvision.ops.roi_align"]
assert roi_align.roi_align(torch.ones(1, 1, 8, 8), [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], 2).shape == (1, 1, 2, 2)
assert roi_align.is_compile_supported("mps") is False  # the library's own answer, asked for now
assert torch._dynamo.utils.is_compile_supported is not roi_align.is_compile_supported
assert libraries.torchvision() is sys.modules["torchvision"]
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _place() -> Path:
    return names_folder() / f"torchvision-{version('torchvision')}-{_REVISION}.json"


def test_torchvision__comes_without_the_compiler_and_works() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


def test_names__are_remembered_for_the_version() -> None:
    asked = names("torchvision")

    assert {"resnet50", "mobilenet_v3_small", "deeplabv3_resnet50", "maskrcnn_resnet50_fpn"} <= set(asked)
    assert "raft_large" not in asked  # optical flow: no operator runs it
    assert names("torchvision") == asked
    _place().write_text('["only_this"]')
    assert names("torchvision") == ["only_this"]


def test_names__a_damaged_file_is_written_again() -> None:
    asked = names("torchvision")
    _place().write_text("[")

    assert names("torchvision") == asked
    assert _place().read_text() != "["


def test_names__a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")

    assert "resnet50" in names("timm")
