"""Is a page drawn as it is printed, within the limits, and a bad document its own item's end?"""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pypdfium2
import pytest
from PIL import Image, ImageDraw

from tests.packed_files import pdf_of, solid
from winnow_workers import pdf_page
from winnow_workers.decode import DecodeLimits
from winnow_workers.pdf_page import decode_page
from winnow_workers.signals import Rejected, Unavailable, Unreadable

LIMITS = DecodeLimits()


def test_decode_page__a_scan_comes_back_pixel_by_pixel() -> None:
    scan = Image.new("RGB", (1654, 400), "white")
    ImageDraw.Draw(scan).rectangle((100, 50, 300, 90), fill=(200, 30, 10))
    decoded = decode_page(pdf_of([scan]), 1, limits=LIMITS)
    assert (decoded.width_px, decoded.height_px) == (1654, 400)
    assert decoded.pixels.shape == (400, 1654, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    assert np.abs(decoded.pixels.astype(int) - np.asarray(scan)).mean() <= 1


def test_decode_page__the_same_from_many_threads() -> None:
    document = pdf_of([solid((number, 0, 255 - number), (200, 100)) for number in range(0, 200, 25)])
    alone = [decode_page(document, page, limits=LIMITS).pixels for page in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda page: decode_page(document, page, limits=LIMITS).pixels, range(1, 9)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_decode_page__an_empty_page_is_white() -> None:
    decoded = decode_page(empty_document(72, 36), 1, limits=LIMITS)
    assert (decoded.width_px, decoded.height_px) == (200, 100)
    assert decoded.pixels.min() == 255


def empty_document(*sizes_points: float) -> bytes:

    sink = io.BytesIO()
    with pypdfium2.PdfDocument.new() as pdf:
        if sizes_points:
            pdf.new_page(*sizes_points).close()
        pdf.save(sink)
    return sink.getvalue()


def test_decode_page__over_a_limit_before_there_are_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    document = empty_document(14400, 14400)
    monkeypatch.setattr(pypdfium2.PdfPage, "render", None)
    with pytest.raises(Rejected, match="40000 x 40000 px at 200 dpi, over the limit of 100000000 pixels"):
        decode_page(document, 1, limits=LIMITS)
    with pytest.raises(Rejected, match="its document has"):
        decode_page(document, 1, limits=DecodeLimits(max_bytes=10))


def test_decode_page__an_image_on_it_over_the_limit_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    document = pdf_of([solid((1, 2, 3), (40, 30))])
    assert document.count(b"/Width 40") == 1
    monkeypatch.setattr(pypdfium2.PdfPage, "render", None)
    with pytest.raises(Rejected, match="90000 x 30 px for an image on its page, over the limit of 2000000 pixels"):
        decode_page(document.replace(b"/Width 40", b"/Width 90000"), 1, limits=DecodeLimits(max_pixels=2_000_000))


def test_decode_page__damaged_and_absent() -> None:
    document = pdf_of([solid((1, 2, 3))])
    for data, page in ((document[: len(document) // 2], 1), (b"", 1), (b"%PDF-1.7", 1), (document, 2)):
        with pytest.raises(Unreadable, match=r"^pdfium: Failed to load"):
            decode_page(data, page, limits=LIMITS)


def test_decode_page__encrypted() -> None:
    with pytest.raises(Unreadable, match="password"):
        decode_page(ENCRYPTED, 1, limits=LIMITS)


def test_decode_page__the_document_itself() -> None:
    with pytest.raises(Unavailable):
        decode_page(pdf_of([solid((1, 2, 3))]), 0, limits=LIMITS)
    with pytest.raises(Unreadable, match="Failed to load document"):
        decode_page(b"text", 0, limits=LIMITS)


def test_scale__is_that_of_the_resolution() -> None:
    assert pytest.approx(200 / 72, rel=1e-5) == pdf_page.SCALE


# An empty page behind a user's password (standard handler, 40 bits); the keys fit no password that anybody tries.
ENCRYPTED = b"""%%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>endobj
4 0 obj<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>endobj
trailer<</Root 1 0 R/Encrypt 4 0 R/ID[<00><00>]>>
""" % (b"ab" * 32, b"cd" * 32)
