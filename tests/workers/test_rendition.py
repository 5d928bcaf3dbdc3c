"""Does a browser get an image that it shows?"""

import io

import numpy as np
import pytest
from PIL import Image

from winnow_workers.decode import DecodeLimits
from winnow_workers.rendition import to_browser_image
from winnow_workers.signals import Unreadable


def test_to_browser_image__upright_full_size_jpeg_of_a_tiff() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), (10, 200, 90)).save(buffer, "TIFF", exif=exif)
    with Image.open(io.BytesIO(to_browser_image(buffer.getvalue(), DecodeLimits()))) as shown:
        assert shown.format is not None
        assert shown.format == "JPEG"
        assert shown.size == (40, 60)
        assert np.abs(np.asarray(shown).astype(int) - (10, 200, 90)).max() <= 4


def test_to_browser_image__no_image() -> None:
    with pytest.raises(Unreadable):
        to_browser_image(b"text", DecodeLimits())
