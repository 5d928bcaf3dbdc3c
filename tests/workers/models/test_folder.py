"""A model's folder on a machine with many actors: one copy, and nobody takes it from under another."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from winnow_workers.models import folder

ACTORS = 8


def test_local_folder__many_at_once_keep_one_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "model"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "model.safetensors").write_bytes(b"weights")
    model = folder.resolve_folder(f"transformers/{source}", base=None)
    files = folder.read_folder(model.weights.uri or "")
    place = folder.cache_folder() / "folders" / model.digest
    together = Barrier(ACTORS)

    def kept(_: int) -> tuple[Path, int]:
        together.wait(30)  # all of them found the cache cold
        found = folder._keep(files, place, model.digest)
        return found, (found / "config.json").stat().st_ino

    with ThreadPoolExecutor(ACTORS) as pool:
        found = set(pool.map(kept, range(ACTORS)))
    assert len(found) == 1  # the same file: nobody replaced another's copy
    assert folder.local_folder(model) == place
