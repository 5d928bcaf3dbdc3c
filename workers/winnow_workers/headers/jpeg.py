"""What does a JPEG claim? Its frame, its scans, what its application segments hold."""

import struct

from winnow_workers.headers.tags import exif_bytes
from winnow_workers.limits import Claim, DecodeLimits

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1
_SCAN, _COMMENT, _APP1 = 0xDA, 0xFE, 0xE1
_APPLICATION = range(0xE0, 0xF0)


def claim_of(data: bytes, limits: DecodeLimits) -> Claim:
    """From the markers before the first scan."""
    del limits
    width = height = bits = metadata_bytes = 0
    exif = b""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == _SCAN or length < 2:
            break
        if marker in _FRAMES and length >= 8 and at + 10 <= len(data) and not width:
            precision, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            bits = precision * components
        elif marker == _COMMENT or marker in _APPLICATION:
            metadata_bytes += length
            if marker == _APP1 and data.startswith(b"Exif\0\0", at + 4):
                exif += data[at + (4 if not exif else 10) : at + 2 + length]
        at += 2 + length
    metadata_bytes += exif_bytes(exif) if exif else 0
    return Claim(width, height, bits, scans=scans_of(data), metadata_bytes=metadata_bytes)


def scans_of(data: bytes) -> int:
    """How many scans there are at most: in coded pixels the marker cannot occur, in a thumbnail it may."""
    return data.count(b"\xff\xda")


def has_many_scans(data: bytes, most: int) -> bool:
    """Whether a progressive file has more scans than `most`; others take time by their bytes only.

    Counting reads the whole file, a fifth of the time of decoding a large one: only what may be progressive is counted.
    """
    is_progressive = data.find(b"\xff\xc2", 0, data.find(b"\xff\xda") + 1) >= 0
    return is_progressive and scans_of(data) > most
