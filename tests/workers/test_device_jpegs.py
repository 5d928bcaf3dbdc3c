"""Do JPEGs that a device decodes come back right, in company, and those that it refuses from the CPU?

In place of nvJPEG stands torchvision's decoder for the CPU, in place of the streams a record.
"""

import io
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
import torch
import torchvision
from PIL import Image
from skimage import data

from tests.workers.models.told import Told
from tests.workers.pipelines import make_work, pipeline_over, save_image
from winnow_storage.errors import EnvironmentFault
from winnow_workers import device_jpegs, jpeg
from winnow_workers.decode import Decoded, DecodeLimits, decode
from winnow_workers.device_jpegs import AT_ONCE, NVJPEG, DeviceJpegs, open_device_jpegs
from winnow_workers.jpeg_agreement import MOST_LEVELS, farthest_levels
from winnow_workers.limits import DecodeSettings
from winnow_workers.pipeline import Pipeline
from winnow_workers.signals import Rejected, Unreadable

Files = list[torch.Tensor]
PHOTO = Image.fromarray(data.chelsea())  # 451 x 300


def encoded(image: Image.Image = PHOTO, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "JPEG", **options)
    return sink.getvalue()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The image decoding and encoding", category=DeprecationWarning)
        yield


def as_torchvision(files: Files) -> Files:
    return [torchvision.io.decode_jpeg(one, mode=torchvision.io.ImageReadMode.RGB) for one in files]


def by(decode_files: Callable[[Files], Files] = as_torchvision, told: Told | None = None) -> DeviceJpegs:
    return DeviceJpegs(decode_files, told or Told())


def asked(decoder: DeviceJpegs, file: bytes, scale: int = 1) -> np.ndarray | None:
    found = jpeg.read_markers(file)
    assert found is not None
    return decoder.decode(file, found, scale)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("scale", "most"), [(1, 0.0), (2, 0.6), (4, 0.6)])
def test_decode__the_pixels_of_the_cpu(mode: str, options: dict[str, object], scale: int, most: float) -> None:
    file = encoded(PHOTO.convert(mode), **options)
    ours = asked(by(), file, scale)
    found = jpeg.read_markers(file)
    assert found is not None
    theirs = jpeg.decode_plain(file, found, scale)
    assert ours is not None
    assert theirs is not None
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert np.abs(ours.astype(int) - theirs).mean() <= most


def test_decode__waits_for_every_stream_that_may_hold_the_pixels() -> None:
    told = Told()
    asked(by(told=told), encoded())
    assert told.log == [("on", "copying"), ("synchronize", "default"), ("synchronize", "copying")]


def test_decode__those_that_wait_go_together() -> None:
    """Whoever holds the device decodes for the others; nobody gets another's pixels."""
    files = [encoded(PHOTO.crop((0, 0, 200 + n, 180))) for n in range(AT_ONCE + 4)]
    sizes: list[int] = []
    go_on = threading.Event()

    def slow(batch: Files) -> Files:
        sizes.append(len(batch))
        assert go_on.wait(30)
        return as_torchvision(batch)

    decoder = by(slow)
    with ThreadPoolExecutor(len(files)) as pool:
        futures = [pool.submit(asked, decoder, file) for file in files]
        end = time.monotonic() + 30
        while len(decoder._waiting) + sum(sizes) < len(files) and time.monotonic() < end:
            time.sleep(0.001)
        go_on.set()
        answers = [future.result() for future in futures]
    assert [answer.shape for answer in answers if answer is not None] == [(180, 200 + n, 3) for n in range(len(files))]
    assert sum(sizes) == len(files)
    assert max(sizes) <= AT_ONCE
    assert len(sizes) <= 1 + AT_ONCE // 2  # the first was alone, or few; the others were not


def test_decode__a_batch_has_so_many_pixels_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_jpegs, "PIXELS_AT_ONCE", 2 * 451 * 300)
    decoder = by()
    decoder._waiting = [device_jpegs._Asked(b"", 1, pixels) for pixels in (451 * 300, 451 * 300, 1, 10**9, 1)]
    assert [len(decoder._next_batch()) for _ in range(3)] == [2, 1, 1]


def test_decode__one_that_is_refused_does_not_take_the_others_along() -> None:
    good, odd = encoded(), encoded(PHOTO.crop((0, 0, 128, 128)))
    sizes: list[int] = []

    def picky(batch: Files) -> Files:
        sizes.append(len(batch))
        if any(len(one) == len(odd) for one in batch):
            raise RuntimeError("Failed to decode batch: 6\nwith a stack")
        return as_torchvision(batch)

    decoder = by(picky)
    wanted = [device_jpegs._Asked(file, 1, 1) for file in (good, odd, good)]
    decoder._decode_batch(wanted)
    assert sizes == [3, 1, 1, 1]
    assert [one.is_done for one in wanted] == [True] * 3
    assert [one.pixels is not None for one in wanted] == [True, False, True]
    assert decoder.refusal == "Failed to decode batch: 6"


def never(files: Files) -> Files:
    raise AssertionError("the device was asked")


@pytest.mark.parametrize("file", [encoded()[:-2], encoded() + b"more", encoded()[:5000]])
def test_decode__damage_is_for_the_cpu_to_find(file: bytes) -> None:
    assert asked(by(never), file) is None


def test_decode__small_ones_are_left_to_pillow() -> None:
    assert asked(by(never), encoded(PHOTO.crop((0, 0, 63, 200)))) is None
    assert asked(by(never), encoded(), scale=8) is None  # 300 / 8


def in_full(file: bytes, on_device: DeviceJpegs | None, needed_side_px: int | None = None) -> Decoded:
    return decode(file, needed_side_px=needed_side_px, limits=DecodeLimits(), on_device=on_device)


def test_decode__upright_and_named() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = encoded(exif=exif)
    ours, theirs = in_full(file, by(), 100), in_full(file, None, 100)
    assert (ours.decoder, theirs.decoder) == (NVJPEG, None)
    assert (ours.width_px, ours.height_px) == (theirs.width_px, theirs.height_px) == (300, 451)
    assert ours.pixels.shape == theirs.pixels.shape == (226, 150, 3)
    assert np.abs(ours.pixels.astype(int) - theirs.pixels).mean() < 1


@pytest.mark.parametrize(
    "file", [encoded(), encoded(PHOTO.convert("CMYK")), encoded(icc_profile=b"x" * 200), encoded() + b"more"]
)
def test_decode__what_is_refused_has_the_pixels_of_the_cpu(file: bytes) -> None:
    def refusing(files: Files) -> Files:
        raise RuntimeError("no")

    ours, theirs = in_full(file, by(refusing)), in_full(file, None)
    assert ours.decoder is None
    assert np.array_equal(ours.pixels, theirs.pixels)


def test_decode__a_truncated_file_stays_unreadable() -> None:
    with pytest.raises(Unreadable, match="truncated"):
        in_full(encoded()[:5000], by(never))


def test_decode__a_bomb_is_rejected_before_it_is_sent() -> None:
    limits = DecodeLimits(max_pixels=1000)
    with pytest.raises(Rejected, match=r"limits\.max_pixels"):
        decode(encoded(), needed_side_px=None, limits=limits, on_device=by(never))


def coarse(files: Files) -> Files:
    """As nvJPEG may: colour at half the size is repeated."""
    images = (simplejpeg.decode_jpeg(bytes(one.numpy()), "RGB", fastupsample=True) for one in files)
    return [torch.from_numpy(one).permute(2, 0, 1) for one in images]


def swapped(files: Files) -> Files:
    return [one.flip(0) for one in as_torchvision(files)]


def moved(files: Files) -> Files:
    return [one.roll(1, dims=2) for one in as_torchvision(files)]


def unready(files: Files) -> Files:
    return [torch.zeros_like(one) for one in as_torchvision(files)]


def cut(files: Files) -> Files:
    return [one[:, :-1] for one in as_torchvision(files)]


def unable(files: Files) -> Files:
    raise RuntimeError("not compiled with nvJPEG support")


def test_agreement__by_the_pixels() -> None:
    assert farthest_levels(by()) == pytest.approx(0.9, abs=0.2)  # of means instead of DCT scaling
    for decode_files in (swapped, moved, unready):
        levels = farthest_levels(by(decode_files))
        assert levels is not None
        assert levels > MOST_LEVELS
    levels = farthest_levels(by(coarse))
    assert levels is not None
    assert 1 < levels < MOST_LEVELS
    assert farthest_levels(by(cut)) is None
    assert farthest_levels(by(unable)) is None


def test_open__only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_jpegs, "_nvjpeg", lambda: by(never))
    assert open_device_jpegs("cpu", "cuda") is None
    assert open_device_jpegs("auto", "cpu") is None
    with pytest.raises(EnvironmentFault, match=r"decode\.jpeg is gpu, .*this process works on cpu") as raised:
        open_device_jpegs("gpu", "cpu")
    assert (raised.value.hint or "").startswith("write decode: {jpeg: auto}")


@pytest.mark.parametrize(
    ("decode_files", "why"),
    [
        (swapped, r"its pixels are \d+\.\d levels of 255 from the CPU's; at most 2 are taken"),
        (unable, "not compiled with nvJPEG support"),
        (cut, "of another size"),
    ],
)
def test_open__only_if_it_decodes_alike(
    monkeypatch: pytest.MonkeyPatch, decode_files: Callable[[Files], Files], why: str
) -> None:
    monkeypatch.setattr(device_jpegs, "_nvjpeg", lambda: by(decode_files))
    assert open_device_jpegs("auto", "cuda") is None
    with pytest.raises(EnvironmentFault, match=why):
        open_device_jpegs("gpu", "cuda")


@pytest.mark.parametrize("asked_for", ["gpu", "auto"])
def test_open__a_coarse_one_will_do(monkeypatch: pytest.MonkeyPatch, asked_for: str) -> None:
    decoder = by(coarse)
    monkeypatch.setattr(device_jpegs, "_nvjpeg", lambda: decoder)
    assert open_device_jpegs(asked_for, "cuda") is decoder  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_open__without_a_device() -> None:
    assert open_device_jpegs("auto", "cuda") is None
    with pytest.raises(EnvironmentFault, match=r"JPEGs cannot be decoded on a GPU here: ."):
        open_device_jpegs("gpu", "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_open__on_a_device() -> None:
    decoder = open_device_jpegs("gpu", "cuda")
    assert decoder is not None
    with ThreadPoolExecutor(32) as pool:
        shapes = {one.shape for one in pool.map(lambda _: in_full(encoded(), decoder).pixels, range(200))}
    assert shapes == {(300, 451, 3)}


def jpegs_and_png(folder: Path) -> list[Path]:
    paths = [folder / f"corpus/{n}.jpg" for n in range(3)]
    png = save_image(folder / "corpus/3.png", seed=3)
    for n, path in enumerate(paths):
        path.write_bytes(encoded(PHOTO.crop((0, 0, 200 + n, 150))))
    return [*paths, png]


def test_run_shard__rows_name_the_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_jpegs, "_nvjpeg", lambda: by(coarse))
    config = pipeline_over(make_work(tmp_path, jpegs_and_png(tmp_path))).config
    pipeline = Pipeline(replace(config, device="cuda", decode=DecodeSettings(jpeg="auto")))
    pipeline.open()
    assert pipeline.run_shard(0).outcomes == {"done": 4}
    rows = pq.read_table(tmp_path / "out/runs/0001/results").to_pylist()
    for task in ("first", "second"):
        assert [row[task]["preproc"] for row in rows] == ["fingerprint-1-nvjpeg"] * 3 + ["fingerprint-1"]


def test_row_alone__is_decoded_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended its process may have ended it in the device's decoder."""
    monkeypatch.setattr(device_jpegs, "_nvjpeg", lambda: by(never))
    config = pipeline_over(make_work(tmp_path, jpegs_and_png(tmp_path))).config
    pipeline = Pipeline(replace(config, device="cuda", decode=DecodeSettings(jpeg="gpu")), alone=True)
    pipeline.open()
    (row,) = pipeline.row_alone(pipeline.items(0)[0], 0, {}).to_pylist()
    assert (row["outcome"], row["first"]["preproc"]) == ("done", "fingerprint-1")
