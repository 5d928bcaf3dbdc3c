"""Tests of how browsers are led to images."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.annotation.examples import render
from tests.packed_files import tar_of
from winnow_annotation.images import ImageSources, image_reference, image_sources, showable_uri
from winnow_storage.blobs import open_store
from winnow_storage.errors import SpecError
from winnow_storage.listing import CorpusSource, stream_corpus
from winnow_storage.uri import parse


def test_image_reference__is_a_path_below_the_document_root_or_the_object_itself() -> None:
    assert image_reference("file:///data/in/a%20b%2Bü.png", document_root="/data") == (
        "/data/local-files/?d=in/a%20b%2B%C3%BC.png"
    )
    assert image_reference("s3://bucket/in/a b.png", document_root="/data") == "s3://bucket/in/a b.png"
    with pytest.raises(SpecError, match="not below its document root /data"):
        image_reference("file:///database/a.png", document_root="/data")


def test_image_sources__names_the_folder_in_common_and_the_buckets() -> None:
    uris = ["file:///data/in/x/1.png", "file:///data/in/y/2.png", "file:///data/b/3.png", "s3://one/k", "s3://two/k"]
    assert image_sources(uris, document_root="/data") == ImageSources(("/data/b", "/data/in"), ("one", "two"))
    assert image_sources([], document_root="/") == ImageSources((), ())
    with pytest.raises(SpecError, match="directly in"):
        image_sources(["file:///data/1.png"], document_root="/data")


def test_showable_uri__leaves_alone_what_browsers_open(tmp_path: Path) -> None:
    output = open_store(parse(str(tmp_path)))
    assert showable_uri("s3://bucket/a.tif", "v", "png", output=output, render=render) == "s3://bucket/a.tif"
    assert showable_uri("file:///a.JPG", "v", None, output=output, render=render) == "file:///a.JPG"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_showable_uri__copies_a_tiff_upright_once(tmp_path: Path, dtype: type) -> None:
    pixels = np.zeros((20, 30), dtype)
    pixels[:, :10] = np.iinfo(dtype).max
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    original = tmp_path / "in" / "a b.tif"
    original.parent.mkdir()
    Image.fromarray(pixels).save(original, exif=exif)
    output = open_store(parse(str(tmp_path / "out")))
    uri = showable_uri(original.as_uri(), "v", "tiff", output=output, render=render)
    assert uri == showable_uri(original.as_uri(), "v", "tiff", output=output, render=render)
    place = parse(uri)
    with Image.open(io.BytesIO(Path(place.path).read_bytes())) as copy:
        assert copy.size == (20, 30)
        assert copy.mode == "RGB"
        assert copy.getpixel((10, 2)) == (255, 255, 255)
        assert copy.getpixel((10, 27)) == (0, 0, 0)


def test_showable_uri__an_item_inside_of_an_archive_is_copied_alone(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (30, 20), (200, 30, 10)).save(picture, "PNG")
    archive = tmp_path / "in" / "a.tar"
    archive.parent.mkdir()
    archive.write_bytes(tar_of({"other.png": b"secret", "1.png": picture.getvalue()}))
    (member,) = (
        row
        for batch in stream_corpus(CorpusSource("c", parse(str(archive.parent)), ("*.tar",)))
        for row in batch.to_pylist()
        if row["key"] == "a.tar/1.png"
    )
    output = open_store(parse(str(tmp_path / "out")))
    uri = showable_uri(member["uri"], member["version"], "png", output=output, render=render)
    assert parse(uri).parent == parse(str(tmp_path / "out/review/images"))
    with Image.open(parse(uri).path) as copy:
        assert (copy.format, copy.size) == ("JPEG", (30, 20))
    archive.unlink()  # what was copied is not read again
    assert showable_uri(member["uri"], member["version"], "png", output=output, render=render) == uri
    assert image_reference(uri, document_root=str(tmp_path)).startswith("/data/local-files/?d=out/review/images/")
