"""What does a PNG claim? Its chunks, with the texts and the profile unpacked no further than the limit."""

import struct
import zlib

from winnow_workers.headers.tags import exif_bytes
from winnow_workers.limits import Claim, DecodeLimits

MAGIC = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
HEAD_BYTES = 12  # of a chunk: length, name, checksum; millions of empty ones are no image either


def claim_of(data: bytes, limits: DecodeLimits) -> Claim:
    """From all chunks up to IEND."""
    width = height = bits = metadata_bytes = 0
    frames, at = 1, len(MAGIC)
    while at + 8 <= len(data) and metadata_bytes <= limits.max_metadata_bytes:
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = at + 8
        if name == b"IEND":
            break
        metadata_bytes += HEAD_BYTES
        if name == b"IHDR" and body + 13 <= len(data):
            columns, rows, depth, colour = struct.unpack_from(">IIBB", data, body)
            # one is allowed; of more, decoders take whichever they come by: the limits are held against the largest
            if columns * rows >= width * height:
                width, height = columns, rows
            bits = max(bits, depth * CHANNELS.get(colour, 4))
        elif name == b"acTL" and length >= 8:
            frames = max(1, int.from_bytes(data[body : body + 4], "big"))
        elif name == b"eXIf":
            metadata_bytes += exif_bytes(data[body : body + length])
        elif name != b"IDAT":
            text = data[body : body + length]  # what is not there of it costs nothing: a cut file is no bomb
            packed = _packed(name, text)
            metadata_bytes += len(text) if packed is None else _unpacked_bytes(packed, limits.max_metadata_bytes)
        at += HEAD_BYTES + length
    return Claim(width, height, bits, frames=min(frames, limits.max_frames + 1), metadata_bytes=metadata_bytes)


def _packed(name: bytes, body: bytes) -> bytes | None:
    """The zlib stream in a chunk; None if there is none."""
    keyword_end = body.find(b"\0", 0, 81)
    if name in (b"iCCP", b"zTXt") and keyword_end > 0:
        return body[keyword_end + 2 :]
    if name == b"iTXt" and keyword_end > 0 and body[keyword_end + 1 : keyword_end + 2] == b"\1":
        language_end = body.find(b"\0", keyword_end + 3)
        text_start = body.find(b"\0", language_end + 1) + 1
        return body[text_start:] if language_end > 0 and text_start > 0 else None
    return None


def _unpacked_bytes(packed: bytes, most: int) -> int:
    """How long a stream is unpacked, at most one more than `most`; what cannot be unpacked is as long as it is."""
    unpacker, count = zlib.decompressobj(), 0
    try:
        while packed and count <= most and not unpacker.eof:
            count += len(unpacker.decompress(packed, min(most + 1 - count, 1 << 20)))
            packed = unpacker.unconsumed_tail
    except zlib.error:
        return max(count, len(packed))
    return count
