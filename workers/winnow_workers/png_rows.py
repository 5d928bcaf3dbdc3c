"""Has a PNG all rows that its header promises? Where the pixels' stream ends well before the last, Pillow leaves black.

A row that is missing stays zero, so the stream is unpacked once more only if the last row is, or of an interlaced file,
whose last rows lie anywhere.
"""

import zlib
from collections.abc import Iterator
from itertools import takewhile

import numpy as np
from PIL import Image

from winnow_workers.headers.png import CHANNELS, HEAD_BYTES, MAGIC

_WHOLE = ((0, 0, 1, 1),)
# PNG, third edition, 8.1: first column, first row, columns apart, rows apart of each pass
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE_BYTES = 1 << 20


def lacks_rows(image: Image.Image, data: bytes) -> bool:
    """Whether the stream of a loaded PNG holds less than its header says.

    Raises:
        zlib.error: the stream is damaged.
    """
    width, height = image.size
    is_interlaced = bool(image.info.get("interlace"))
    if not is_interlaced and np.asarray(image.crop((0, height - 1, width, height))).any():
        return False
    header = b""
    chunks = _chunks(data)
    for name, body in chunks:
        if name == b"IDAT":
            break
        if name == b"IHDR":
            header = bytes(body)
    else:
        return True
    pixel_bits = header[8] * CHANNELS[header[9]]
    wanted = sum(
        rows * (1 + (columns * pixel_bits + 7) // 8)
        for left, top, right, down in (_ADAM7 if is_interlaced else _WHOLE)
        if (columns := -((left - width) // right)) > 0 and (rows := -((top - height) // down)) > 0
    )
    rest = takewhile(lambda chunk: chunk[0] == b"IDAT", chunks)
    return not _holds(wanted, iter([body, *(body for _, body in rest)]))


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    at, whole = len(MAGIC), memoryview(data)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], whole[at + 8 : at + 8 + length]
        at += HEAD_BYTES + length


def _holds(wanted: int, packed: Iterator[memoryview]) -> bool:
    """Whether a stream unpacks to so many bytes; no more of it is looked at."""
    unpacker, count = zlib.decompressobj(), 0
    for piece in packed:
        rest: memoryview | bytes = piece
        while len(rest) and count < wanted and not unpacker.eof:
            count += len(unpacker.decompress(rest, min(wanted - count, _PIECE_BYTES)))
            rest = unpacker.unconsumed_tail
    return count >= wanted
