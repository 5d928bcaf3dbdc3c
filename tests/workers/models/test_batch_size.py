"""Does the search stop where a larger batch no longer pays, and is its answer remembered?"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from winnow_workers.models.batch_size import best_size, measured_rate, remember_smaller, remembered_size
from winnow_workers.models.cache import batch_sizes_folder
from winnow_workers.models.fixed_batch import CPU_BATCH, FixedBatch

KEY: dict[str, object] = {"model": "random:1", "device": "some card"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        yield


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({32: 100, 64: 150, 128: 156, 256: 900}, 64),  # 4 % more is not worth it
        ({32: 100, 64: 150, 128: 180, 256: 200, 512: 900}, 256),  # not above the most
        ({32: 100, 64: None}, 32),
        ({32: None}, 32),  # it is for the run to halve
        ({32: 100, 64: 90}, 32),
    ],
)
def test_best_size__doubles_while_it_pays(rates: dict[int, float | None], expected: int) -> None:
    assert best_size(lambda size: rates[size], start=32, most=256) == expected


def test_remembered_size__measures_once() -> None:
    sizes = iter([64, 128, 256])
    assert remembered_size(KEY, lambda: next(sizes)) == 64
    assert remembered_size(KEY, lambda: next(sizes)) == 64
    assert remembered_size({**KEY, "device": "another"}, lambda: next(sizes)) == 128


def test_remembered_size__the_first_of_two_decides() -> None:
    def measure() -> int:
        assert remembered_size(KEY, lambda: 128) == 128  # another process, meanwhile
        return 64

    assert remembered_size(KEY, measure) == 128
    assert [place.suffix for place in batch_sizes_folder().iterdir()] == [".json"]  # no part is left


@pytest.mark.parametrize("damage", ["", "{", '{"size": "many"}', '{"size": 100000}', "[1]"])
def test_remembered_size__a_damaged_note_is_measured_again(damage: str) -> None:
    remembered_size(KEY, lambda: 64)
    (place,) = batch_sizes_folder().iterdir()
    place.write_text(damage)
    assert remembered_size(KEY, lambda: 32) == 32
    assert remembered_size(KEY, lambda: 16) == 32


def test_remembered_size__a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "winnow").write_text("a file where a folder should be")
    assert remembered_size(KEY, lambda: 64) == 64


def test_measured_rate__and_no_room() -> None:
    class Roomy(torch.nn.Module):
        def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
            if len(images_nchw) > 16:
                raise torch.OutOfMemoryError("no room")
            return images_nchw.mean(dim=(1, 2, 3))

    batch = FixedBatch(Roomy(), "cpu")
    rate = measured_rate(batch, torch.zeros(3, 4, 4), 16)
    assert rate is not None
    assert rate > 0
    assert measured_rate(batch, torch.zeros(3, 4, 4), 32) is None
    assert batch.size == CPU_BATCH


def test_remember_smaller__whoever_comes_after_begins_with_it() -> None:
    remembered_size(KEY, lambda: 128)
    remember_smaller(KEY, 32)
    remember_smaller(KEY, 64)  # of a process that ran out only then
    assert remembered_size(KEY, lambda: 256) == 32
    assert [place.suffix for place in batch_sizes_folder().iterdir()] == [".json"]


def test_remember_smaller__a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "winnow").write_text("a file where a folder should be")
    remember_smaller(KEY, 32)
    assert remembered_size(KEY, lambda: 64) == 64
