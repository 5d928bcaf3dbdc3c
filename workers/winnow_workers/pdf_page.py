"""How does a page of a PDF document become pixels? Drawn on white at 200 dpi, within the limits of images."""

import contextlib
import math
import threading

import numpy as np
import pypdfium2

from winnow_workers.decode import Decoded, DecodeLimits
from winnow_workers.limits import check_bytes, check_format, check_pixels
from winnow_workers.signals import OutOfMemory, Unavailable, Unreadable

DPI = 200  # what text recognition wants of a scanned page: characters of 8 points are 22 px high
POINTS_PER_INCH = 72  # a PDF's unit
# A scan of 1654 px at 200 dpi is to be 1654 px again: page sizes are float32, and the library rounds up.
SCALE = DPI / POINTS_PER_INCH * (1 - 1e-6)
FORMAT = "pdf"
_PDFIUM = threading.Lock()  # it is not made for threads: https://pypdfium2.readthedocs.io


def decode_page(document: bytes, page: int, *, limits: DecodeLimits) -> Decoded:
    """The pixels of a page (from 1), with what is filled into its forms. Page 0 only asks what is wrong with it all.

    Raises:
        Unreadable: the document or the page is damaged, or encrypted.
        Rejected: over a limit.
        OutOfMemory: its pixels take more memory than there is.
        Unavailable: nothing is wrong with the document.
    """
    check_format(FORMAT, limits)
    check_bytes(len(document), limits, "its document has ")
    with _PDFIUM:
        try:
            with pypdfium2.PdfDocument(document) as pdf:
                if page == 0:
                    raise _unopened(len(pdf))
                pdf.init_forms()
                return _drawn(pdf[page - 1], limits)
        except (pypdfium2.PdfiumError, IndexError) as error:
            raise Unreadable(f"pdfium: {error}") from error
        except MemoryError as error:
            raise OutOfMemory("drawing its page takes more memory than there is") from error


def _drawn(page: pypdfium2.PdfPage, limits: DecodeLimits) -> Decoded:
    width_px, height_px = (math.ceil(side * SCALE) for side in page.get_size())  # as `render` takes them
    check_pixels(width_px, height_px, limits, f"at {DPI} dpi")
    if width_px < 1 or height_px < 1:
        raise Unreadable(f"its page is {width_px} x {height_px} px at {DPI} dpi")
    for image in page.get_objects([pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]):
        with contextlib.suppress(pypdfium2.PdfiumError):  # of an image without a size nothing is drawn
            across_px, down_px = image.get_px_size()
            check_pixels(across_px, down_px, limits, "for an image on its page")
    bitmap = page.render(scale=SCALE, rev_byteorder=True)  # RGB
    pixels = np.array(bitmap.to_numpy()[:, :, :3], order="C")  # a copy: the library's memory goes with the page
    return Decoded(pixels, width_px, height_px, FORMAT)


def _unopened(pages: int) -> Unreadable | Unavailable:
    if pages == 0:
        return Unreadable("it has no pages")
    return Unavailable("it could not be opened when it was listed, and can be now")
