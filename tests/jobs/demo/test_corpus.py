"""Is the demo corpus what it says: varied, deterministic, and true?"""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco

from tests.demo_assets import demo_corpus_dir
from winnow_jobs.demo import bad_images, corpus
from winnow_jobs.demo.image_files import KINDS, encode
from winnow_storage.errors import UsageError
from winnow_storage.schemas import IMAGE_SUFFIXES, Outcome
from winnow_workers.decode import DecodeLimits, decode
from winnow_workers.signals import Rejected, Unreadable


@pytest.fixture(scope="module")
def place() -> Path:
    return demo_corpus_dir()


@pytest.fixture(scope="module")
def truth(place: Path) -> dict[str, dict[str, object]]:
    return {row["key"]: row for row in pq.read_table(place / "truth.parquet").to_pylist()}


@pytest.fixture(scope="module")
def files(place: Path) -> dict[str, Path]:
    root = place / "corpus"
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}


def test_corpus__has_about_300_images_in_seven_folders(truth: dict[str, dict[str, object]]) -> None:
    counts = Counter(key.partition("/")[0] for key in truth)
    assert counts == {
        "digits": 100, "text": 40, "coins": 24, "shapes": 32, "textures": 54, "photos": 48, "bad": 12
    }  # fmt: skip


def test_truth__covers_every_image_and_nothing_else(
    files: dict[str, Path], truth: dict[str, dict[str, object]]
) -> None:
    images = {key for key in files if key.rpartition(".")[2].lower() in IMAGE_SUFFIXES}
    assert set(truth) == images
    assert set(files) - images == set(corpus.OTHERS)


def test_truth__says_for_each_operator_what_its_measure_needs(truth: dict[str, dict[str, object]]) -> None:
    needed = {"classify": "label", "ocr": "text", "segment": "masks", "anomaly": "anomalous", "embed": "label"}
    seen = Counter(row["operator"] for row in truth.values())
    assert set(seen) == {*needed, None}
    for row in truth.values():
        if row["operator"] is not None:
            assert row[needed[str(row["operator"])]] is not None, row["key"]
    assert {row["anomalous"] for row in truth.values() if row["operator"] == "anomaly"} == {True, False}
    for operator in ("classify", "ocr"):
        spoiled = [row for row in truth.values() if row["operator"] == operator and row["clean"] is False]
        assert len(spoiled) >= 5


def test_corpus__shows_every_format_mode_and_orientation(files: dict[str, Path]) -> None:
    seen: set[object] = set()
    for key, path in files.items():
        if key.startswith("bad/") or key in corpus.OTHERS:
            continue
        with Image.open(path) as image:
            seen |= {image.format, (image.format, image.mode), ("exif", image.getexif().get(0x0112, 1))}
            if image.format == "JPEG":
                seen.add(("progressive", bool(image.info.get("progressive"))))
            assert min(image.size) >= 200, key
            seen.add(("megapixels", image.size[0] * image.size[1] // 1_000_000))
    assert seen >= {"JPEG", "PNG", "WEBP", "TIFF", ("progressive", True), ("progressive", False)}
    assert seen >= {("JPEG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "I;16")}
    assert seen >= {("TIFF", "I;16"), ("TIFF", "CMYK"), ("exif", 3), ("exif", 6), ("exif", 8), ("megapixels", 12)}


def test_corpus__is_the_same_on_every_build(tmp_path: Path, place: Path, files: dict[str, Path]) -> None:
    again = corpus.make_corpus(tmp_path / "corpus")
    assert {key: _digest(again.corpus / key) for key in files} == {key: _digest(path) for key, path in files.items()}
    assert pq.read_table(again.truth).equals(pq.read_table(place / "truth.parquet"))
    assert str(again).startswith("310 images (100 digits")
    with pytest.raises(UsageError, match="is there already"):
        corpus.make_corpus(tmp_path / "corpus")


def test_bad_images__get_the_outcomes_that_the_truth_states() -> None:
    wanted = {sample.key: sample.truth.expected_outcome for sample in bad_images.samples(0)}
    assert Counter(wanted.values()) == {Outcome.UNREADABLE: 7, Outcome.REJECTED: 2, Outcome.DONE: 3}
    assert {sample.key: _outcome(sample.data) for sample in bad_images.samples(0)} == wanted


# pycocotools' own array class is older than numpy 2
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks__have_the_size_of_the_upright_image_and_do_not_overlap(
    files: dict[str, Path], truth: dict[str, dict[str, object]]
) -> None:
    rows = [row for row in truth.values() if row["operator"] == "segment"]
    for row in rows[::5]:
        decoded = decode(files[str(row["key"])].read_bytes(), needed_side_px=None, limits=DecodeLimits())
        masks = [coco.decode(one) for one in json.loads(str(row["masks"])).values()]
        assert all(mask.shape == (decoded.height_px, decoded.width_px) and mask.any() for mask in masks)
        assert np.sum(masks, axis=0).max() == 1


@pytest.mark.parametrize("name", sorted(KINDS))
def test_encode__is_upright_and_nearly_the_same_once_decoded(name: str) -> None:
    ramp = np.linspace(0, 255, 240, dtype=np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (200, 240, 3)))
    decoded = decode(encode(pixels, KINDS[name]), needed_side_px=None, limits=DecodeLimits())
    inside = (slice(8, -8), slice(8, -8))
    assert decoded.pixels.shape == pixels.shape
    assert np.abs(decoded.pixels[inside].astype(int) - pixels[inside].astype(int)).mean() < 3


def _outcome(data: bytes) -> Outcome:
    try:
        decode(data, needed_side_px=None, limits=DecodeLimits())
    except Unreadable:
        return Outcome.UNREADABLE
    except Rejected:
        return Outcome.REJECTED
    return Outcome.DONE


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
