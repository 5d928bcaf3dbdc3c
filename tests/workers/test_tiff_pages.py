"""Is every page of a TIFF an item if the job says so, and does every broken chain end with its reason?"""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.workers.image_files import pages_of, scene, tiff_of
from winnow_storage.blobs import open_store
from winnow_storage.listing import CorpusSource, stream_corpus
from winnow_storage.uri import parse
from winnow_workers.decode import DecodeLimits
from winnow_workers.fetch import Fetched, Fetcher, Item
from winnow_workers.signals import Rejected, Unreadable

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
PAGES = [np.full((4 + number, 6, 3), colour, np.uint8) for number, colour in enumerate(COLOURS)]


def listed(folder: Path, *, every: bool = True, limits: DecodeLimits | None = None) -> dict[str, Fetched]:
    limits = limits or DecodeLimits()
    source = CorpusSource(
        "c", parse(str(folder)), ("*.tif", "*.tiff", "*.png"), tiff_pages=every, max_pages=limits.max_frames
    )
    rows = [row for batch in stream_corpus(source) for row in batch.to_pylist()]
    fetcher = Fetcher(limits)
    return {row["key"]: fetcher.fetch(Item(**row, tasks=frozenset()), needed_side_px=None) for row in rows}


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"bigtiff": True, "byteorder": ">"}])
def test_listing__every_page_is_an_item(tmp_path: Path, options: dict[str, object]) -> None:
    (tmp_path / "a.TIF").write_bytes(pages_of(PAGES, **options))
    (tmp_path / "b.tiff").write_bytes(tiff_of(scene()))
    fetched = listed(tmp_path)
    assert list(fetched) == ["a.TIF/000001", "a.TIF/000002", "a.TIF/000003", "b.tiff/000001"]
    for one, page in zip(fetched.values(), [*PAGES, scene()], strict=True):
        assert one.decoded is not None, one.signal
        assert np.array_equal(one.decoded.pixels, page)
        assert (one.decoded.width_px, one.decoded.height_px) == page.shape[1::-1]
        assert one.bytes is None
    assert len({one.content_sha256 for one in fetched.values()}) == 4
    assert fetched["a.TIF/000002"].item.uri == f"tiff+{(tmp_path / 'a.TIF').as_uri()}#page=2"


def test_listing__the_first_page_is_the_item_unless_the_job_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(pages_of(PAGES))
    fetched = listed(tmp_path, every=False)
    assert list(fetched) == ["a.tif"]
    decoded = fetched["a.tif"].decoded
    assert decoded is not None
    assert np.array_equal(decoded.pixels, PAGES[0])


def test_listing__a_thumbnail_is_no_page(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, page in enumerate(PAGES):
            writer.write(page, photometric="rgb", metadata=None, subfiletype=number % 2)
    fetched = listed(tmp_path)
    assert list(fetched) == ["a.tif/000001", "a.tif/000003"]
    assert all(one.signal is None for one in fetched.values())


def directories_at(data: bytes) -> list[int]:
    """Where the number that leads to each directory of a little-endian TIFF is."""
    places, at = [4], struct.unpack_from("<I", data, 4)[0]
    while at:
        (count,) = struct.unpack_from("<H", data, at)
        places.append(at + 2 + 12 * count)
        (at,) = struct.unpack_from("<I", data, places[-1])
    return places


def test_listing__pages_in_a_circle(tmp_path: Path) -> None:
    data = bytearray(pages_of(PAGES))
    places = directories_at(data)
    struct.pack_into("<I", data, places[3], struct.unpack_from("<I", data, places[1])[0])
    (tmp_path / "a.tif").write_bytes(data)
    fetched = listed(tmp_path)
    assert list(fetched) == ["a.tif", "a.tif/000001", "a.tif/000002", "a.tif/000003"]
    signal = fetched["a.tif"].signal
    assert isinstance(signal, Rejected)
    assert signal.reason == (
        "its page 3 leads back to page 2, so that its pages never end, over the limit of 10000 frames "
        "(limits.max_frames)"
    )
    alone = listed(tmp_path, every=False)["a.tif"].signal
    assert isinstance(alone, Rejected)
    assert alone.reason == signal.reason


def test_listing__a_chain_that_leads_out_of_the_file(tmp_path: Path) -> None:
    data = bytearray(pages_of(PAGES))
    struct.pack_into("<I", data, directories_at(data)[2], len(data) + 100)
    (tmp_path / "a.tif").write_bytes(data)
    (tmp_path / "b.tif").write_bytes(b"text")
    fetched = listed(tmp_path)
    assert list(fetched) == ["a.tif", "a.tif/000001", "a.tif/000002", "b.tif"]
    said = {key: str(one.signal) for key, one in fetched.items() if isinstance(one.signal, Unreadable)}
    assert said["a.tif"] == (f"damaged tiff: its page 3 begins at byte {len(data) + 100}, where no directory is")
    assert said["b.tif"].startswith("no image format")


def test_listing__more_pages_than_there_may_be(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(pages_of(PAGES))
    fetched = listed(tmp_path, limits=DecodeLimits(max_frames=2))
    assert list(fetched) == ["a.tif"]
    assert isinstance(fetched["a.tif"].signal, Rejected)
    assert fetched["a.tif"].signal.reason == "more than 2 frames, which is the limit (limits.max_frames)"
    assert open_store(parse(str(tmp_path))).info("a.tif") is not None
