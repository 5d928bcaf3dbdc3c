"""Which JPEGs need no more than a plain decode, and what are their pixels? Most of them, by libjpeg-turbo directly.

The pixels are those that Pillow gives, to the bit, for less work around them. Whatever is unusual (an ICC profile, XMP,
Adobe's colour spaces, multi-picture files, damage) is left to Pillow by answering None.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg

from winnow_workers.headers.tags import exif_orientation

SCALES = (8, 4, 2)
# ITU-T T.81, table B.1
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive Huffman
_SCAN, _APP0, _APP1 = 0xDA, 0xE0, 0xE1
_APP14 = 0xEE  # Adobe's colour spaces; APP2 holds ICC profiles and multi-picture files
_TABLES_AND_COMMENT = {0xC4, 0xDB, 0xDD, 0xFE}
_WITHOUT_CONSEQUENCE = frozenset(_TABLES_AND_COMMENT | set(range(0xE3, 0xF0)) - {_APP14})
_EXIF = b"Exif\0\0"
_YCC_IDS = b"\x01\x02\x03"
LEAST_SIDE_PX = 64  # below, the scales' roundings meet, and nothing is to be won


@dataclass(frozen=True, slots=True)
class PlainJpeg:
    """What the markers of a usual JPEG say: the stored sides in pixels, and the EXIF orientation (1 to 8)."""

    width_px: int
    height_px: int
    orientation: int


def scale_for(width_px: int, height_px: int, needed_side_px: int | None) -> int:
    """By how much a JPEG of these sides is scaled down while it is decoded: 8, 4, 2 or 1."""
    if needed_side_px is None:
        return 1
    shorter = min(width_px, height_px)
    return next((scale for scale in SCALES if shorter // scale >= max(1, needed_side_px)), 1)


def read_markers(data: bytes) -> PlainJpeg | None:
    """What the file is, None if it is anything but a usual JPEG (grey or YCbCr, 8 bit, no profile)."""
    exif, frame, is_jfif = b"", b"", False
    for marker, body in _segments(data):
        if marker == _SCAN:
            return _plain(frame, _orientation(exif), is_jfif=is_jfif)
        if marker == _APP0:
            is_jfif = is_jfif or body.startswith(b"JFIF\0")
        elif marker == _APP1 and body.startswith(_EXIF) and not exif:
            exif = body
        elif marker in _FRAMES and not frame:
            frame = body
        elif marker not in _WITHOUT_CONSEQUENCE:
            return None
    return None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of every segment up to the first scan; none further where the file leaves the grammar."""
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 4 <= len(data) and data[at] == 0xFF:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(data):
            return
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _plain(frame: bytes, orientation: int, *, is_jfif: bool) -> PlainJpeg | None:
    if len(frame) < 6 or frame[0] != 8:
        return None
    height, width, components = struct.unpack(">HHB", frame[1:6])
    is_colour = components == 3 and (is_jfif or frame[6::3] == _YCC_IDS)
    if not (components == 1 or is_colour) or min(width, height) < 1:
        return None
    return PlainJpeg(width, height, orientation)


def decode_plain(data: bytes, found: PlainJpeg, scale: int) -> npt.NDArray[np.uint8] | None:
    """(height, width, 3) uint8 RGB as stored, at 1/`scale`; None if the file is damaged in any way.

    Raises:
        MemoryError: there is none for the pixels.
    """
    if min(found.width_px, found.height_px) // scale < LEAST_SIDE_PX:
        return None
    height, width = -(-found.height_px // scale), -(-found.width_px // scale)
    sides = (height, width) if scale > 1 else (0, 0)
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=sides[0], min_width=sides[1])
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None


def _orientation(exif: bytes) -> int:
    return exif_orientation(exif) or 1  # broken EXIF says nothing about the pixels
