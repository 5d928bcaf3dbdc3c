"""What does a WebP claim? The canvas, or the one bitstream's own size, its frames, its EXIF and profile."""

from winnow_workers.headers.tags import exif_bytes
from winnow_workers.limits import Claim, DecodeLimits

_ALPHA = 0x10
_METADATA = (b"ICCP", b"XMP ")


def claim_of(data: bytes, limits: DecodeLimits) -> Claim:
    """From the RIFF chunks (RFC 9649)."""
    width = height = frames = metadata_bytes = 0
    bits, at = 24, 12
    while at + 8 <= len(data) and frames <= limits.max_frames:
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        head = data[at + 8 : at + 18]
        if name == b"VP8X" and len(head) == 10:
            width, height = (int.from_bytes(head[start : start + 3], "little") + 1 for start in (4, 7))
            bits = 32 if head[0] & _ALPHA else 24
        elif name == b"VP8L" and len(head) >= 5 and not width:
            packed = int.from_bytes(head[1:5], "little")
            width, height, bits = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, 32
        elif name == b"VP8 " and len(head) == 10 and not width:
            width, height = (int.from_bytes(head[start : start + 2], "little") & 0x3FFF for start in (6, 8))
        elif name == b"ANMF":
            frames += 1
        elif name == b"EXIF":
            metadata_bytes += exif_bytes(data[at + 8 : at + 8 + length])
        elif name in _METADATA:
            metadata_bytes += max(0, min(length, len(data) - at - 8))
        at += 8 + length + length % 2
    return Claim(width, height, bits, frames=max(1, frames), metadata_bytes=metadata_bytes)
