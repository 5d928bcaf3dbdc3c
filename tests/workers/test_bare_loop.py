"""What a run is held against: images in memory, decoded and predicted by the same threads, watched as a run is."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.workers.pipelines import Work, make_work, pipeline_over, save_image
from winnow_workers import fetch
from winnow_workers import pipeline as module
from winnow_workers.pipeline import CHUNK_ITEMS, Pipeline
from winnow_workers.quarantine import FETCH

DEADLINE_S = 10.0


def images(folder: Path, count: int) -> Work:
    return make_work(folder, [save_image(folder / f"corpus/{n}.png", seed=n) for n in range(count)])


def opened(pipeline: Pipeline) -> Pipeline:
    pipeline.open()
    return pipeline


def test_bare_loop__as_many_threads_decode_as_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them waits until all of them decode."""
    pipeline = opened(Pipeline(replace(pipeline_over(images(tmp_path, 6)).config, threads=2)))
    plain, together = fetch.decode, threading.Barrier(pipeline._decoders)

    def decode(data: bytes, **options: object) -> fetch.Decoded:
        together.wait(DEADLINE_S)
        return plain(data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(fetch, "decode", decode)
    assert pipeline._decoders == 3
    assert pipeline.bare_loop(0)[0] == 6


def test_bare_loop__what_hangs_is_watched_from_the_first_image_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    seen: list[list[str]] = []
    for name in ("read", "developed"):
        plain = getattr(fetch.Fetcher, name)

        def noted(self: fetch.Fetcher, *given: object, plain: object = plain) -> object:
            seen.append(steps[-1:])
            return plain(self, *given)  # type: ignore[operator]

        monkeypatch.setattr(fetch.Fetcher, name, noted)
    pipeline = opened(Pipeline(pipeline_over(images(tmp_path, 3)).config, steps.append))
    assert pipeline.bare_loop(0)[0] == 3
    assert seen == [[FETCH]] * 6


def test_bare_loop__counts_what_was_decoded_and_reads_nothing_that_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save_image(tmp_path / f"corpus/{n}.png", seed=n) for n in range(3)]
    paths[1].write_bytes(paths[1].read_bytes() + b"\0" * 100_000)
    paths[2].write_bytes(b"no image")
    read: list[str] = []
    plain = fetch.Fetcher.read

    def noted(self: fetch.Fetcher, item: fetch.Item) -> fetch.Content:
        read.append(item.key)
        return plain(self, item)

    monkeypatch.setattr(fetch.Fetcher, "read", noted)
    count, seconds = pipeline_over(make_work(tmp_path, paths), max_bytes=50_000).bare_loop(0)
    assert (count, read) == (1, ["0.png", "2.png"])
    assert seconds > 0


def test_bare_loop__goes_on_no_longer_than_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pipeline_over(images(tmp_path, CHUNK_ITEMS + 8))
    assert pipeline.bare_loop(0)[0] == CHUNK_ITEMS + 8
    monkeypatch.setattr(module, "BARE_S", 0.0)
    assert pipeline.bare_loop(0)[0] == CHUNK_ITEMS


def test_bare_loop__the_images_come_by_several_times_on_an_accelerator(tmp_path: Path) -> None:
    """Its tasks are begun with ahead there; the operator of the test needs no device."""
    pipeline = opened(Pipeline(replace(pipeline_over(images(tmp_path, 5)).config, device="cuda")))
    assert pipeline.bare_loop(0)[0] == 5 * module.BARE_ROUNDS
