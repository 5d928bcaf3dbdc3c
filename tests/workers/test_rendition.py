"""Does a browser get an image that it shows?"""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from winnow_workers.decode import DecodeLimits
from winnow_workers.fetch import Fetcher
from winnow_workers.rendition import to_browser_image
from winnow_workers.signals import Unreadable


def test_to_browser_image__upright_full_size_jpeg_of_a_tiff(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), (10, 200, 90)).save(tmp_path / "a.tiff", exif=exif)
    jpeg = to_browser_image((tmp_path / "a.tiff").as_uri(), "v", Fetcher(DecodeLimits()))
    with Image.open(io.BytesIO(jpeg)) as shown:
        assert shown.format == "JPEG"
        assert shown.size == (40, 60)
        assert np.abs(np.asarray(shown).astype(int) - (10, 200, 90)).max() <= 4


def test_to_browser_image__no_image(tmp_path: Path) -> None:
    (tmp_path / "a.tiff").write_bytes(b"text")
    with pytest.raises(Unreadable):
        to_browser_image((tmp_path / "a.tiff").as_uri(), "v", Fetcher(DecodeLimits()))
