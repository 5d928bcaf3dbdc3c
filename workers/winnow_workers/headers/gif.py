"""What does a GIF claim? Its screen, frames and comments, by its blocks: up to one frame more than there may be."""

import struct

from winnow_workers.limits import Claim, DecodeLimits

_EXTENSION, _FRAME = 0x21, 0x2C


def claim_of(data: bytes, limits: DecodeLimits) -> Claim:
    """From all blocks. A first frame that is larger than the screen makes the image larger."""
    if len(data) < 13:
        return Claim()
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _table_bytes(flags)
    frames = metadata_bytes = 0
    while at < len(data) and frames <= limits.max_frames and metadata_bytes <= limits.max_metadata_bytes:
        if data[at] == _EXTENSION:
            start, at = at, _behind(data, at + 2)
            metadata_bytes += at - start
        elif data[at] == _FRAME and at + 10 <= len(data):
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, at + 1)
            if frames == 0:
                width, height = max(width, left + frame_width), max(height, top + frame_height)
            frames += 1
            at = _behind(data, at + 10 + _table_bytes(flags) + 1)
        else:
            break
    return Claim(width, height, 8, frames=max(1, frames), metadata_bytes=metadata_bytes)


def _table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _behind(data: bytes, at: int) -> int:
    """Where the sub-blocks that begin at a byte have ended."""
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1
