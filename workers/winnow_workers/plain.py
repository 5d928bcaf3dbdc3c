"""Which PNGs, WebPs and BMPs need no more than a plain decode, and what are their pixels? Most of them, by OpenCV.

The pixels are those that Pillow gives, to the bit, for less work around them, and threads run beside it all the while.
Whatever is unusual (transparency, palettes, other depths than 8 bit, profiles, EXIF, XMP, frames, damage) is left to
Pillow by answering None.
"""

import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt

from winnow_workers.headers.png import MAGIC

# PNG, third edition, chapters 5 and 11: a length and a name before a chunk's content, a checksum behind it
_HEAD_BYTES, _CHUNK_BYTES = 8, 12
_IHDR = b"\0\0\0\x0dIHDR"
# Of 8 bits a sample, not interlaced: depth, colour type (grey, RGB), compression, filter, interlace
_USUAL_SAMPLES = (b"\x08\0\0\0\0", b"\x08\x02\0\0\0")
# Chunks that change no pixel here, with the length of their content
_WITHOUT_CONSEQUENCE = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7}
# The standard's own keywords of texts (11.3.3.1), and those that ImageMagick writes; EXIF and XMP stand under others
_KEYWORDS = frozenset(
    {b"Title", b"Author", b"Description", b"Copyright", b"Creation Time", b"Software", b"Disclaimer", b"Warning",
     b"Source", b"Comment", b"date:create", b"date:modify", b"date:timestamp"}
)  # fmt: skip

_LOSSY, _LOSSLESS = b"VP8 ", b"VP8L"  # RFC 9649, 2.5 and 2.6; "VP8X" begins all that has more than pixels
_LEAST_WEBP_BYTES = 32  # OpenCV takes none that is shorter
_ALPHA_AT, _ALPHA = 24, 0x10  # in a lossless file

# Where the pixels begin, the header's length, width, height, planes, bits, packing
_BMP_HEADER = struct.Struct("<10xIIiiHHI")
_BMP_HEADER_BYTES, _BMP_PIXELS_AT = 40, 54


def decode_plain(data: bytes, name: str, size_px: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
    """(height, width, 3) uint8 RGB; None if the file is damaged in any way, or anything but plain.

    `name` is the format, `size_px` width and height by the header, which were held against the limits.
    """
    is_plain = {"png": _is_plain_png, "webp": _is_plain_webp, "bmp": _is_plain_bmp}.get(name)
    if is_plain is None or not is_plain(data):
        return None
    try:
        pixels: npt.NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None
    return pixels if pixels is not None and pixels.shape == (size_px[1], size_px[0], 3) else None


def _is_plain_png(data: bytes) -> bool:
    """Whether it is grey or RGB of 8 bits, with nothing beside them that says how they are to be shown."""
    at = len(MAGIC)
    if not data.startswith(_IHDR, at) or data[24:29] not in _USUAL_SAMPLES:
        return False
    at += _CHUNK_BYTES + 13
    while (name := data[at + 4 : at + _HEAD_BYTES]) != b"IEND":
        end = at + _CHUNK_BYTES + int.from_bytes(data[at : at + 4], "big")
        if end > len(data) or (name != b"IDAT" and not _says_nothing(name, data[at:end])):
            return False
        at = end
    return at + _CHUNK_BYTES <= len(data)


def _says_nothing(name: bytes, chunk: bytes) -> bool:
    """Whether a whole chunk changes no pixel. Over a wrong checksum libpng reads on; to Pillow it is damage."""
    body = chunk[_HEAD_BYTES:-4]
    if name == b"tEXt":
        keyword, found, _ = body.partition(b"\0")
        is_known = found == b"\0" and keyword in _KEYWORDS
    else:
        is_known = len(body) == _WITHOUT_CONSEQUENCE.get(name)
    return is_known and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _is_plain_webp(data: bytes) -> bool:
    """Whether it is nothing but one opaque bitstream, from the first byte to the last."""
    kind, length = data[12:16], int.from_bytes(data[16:20], "little")
    if len(data) < _LEAST_WEBP_BYTES or kind not in (_LOSSY, _LOSSLESS):
        return False
    is_opaque = kind == _LOSSY or not data[_ALPHA_AT] & _ALPHA
    return is_opaque and len(data) == 20 + length + length % 2 == 8 + int.from_bytes(data[4:8], "little")


def _is_plain_bmp(data: bytes) -> bool:
    """Whether it is unpacked, of 24 bits, and whole; a negative height is that of an image stored from the top."""
    if len(data) < _BMP_PIXELS_AT:
        return False
    pixels_at, header_bytes, width, height, planes, bits, packing = _BMP_HEADER.unpack_from(data)
    row_bytes = (3 * width + 3) // 4 * 4
    return (
        (pixels_at, header_bytes, planes, bits, packing) == (_BMP_PIXELS_AT, _BMP_HEADER_BYTES, 1, 24, 0)
        and min(width, abs(height)) >= 1
        and _BMP_PIXELS_AT + row_bytes * abs(height) <= len(data)
    )
