"""What does an AVIF claim? The largest of its images' sizes, the frames of its tracks, its profile, EXIF and XMP.

Boxes as in ISO/IEC 14496-12 (ISOBMFF) and 23008-12 (HEIF).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from winnow_workers.headers.tags import exif_bytes
from winnow_workers.limits import Claim, DecodeLimits

_PARENTS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"iprp", b"ipco"})
_METADATA = (b"Exif", b"mime")
_BOXES = 100_000  # that are looked at; a usual file has fewer than 100
_DEPTH = 8


@dataclass(frozen=True, slots=True)
class _Box:
    name: bytes
    start: int  # of its body
    end: int


def claim_of(data: bytes, limits: DecodeLimits) -> Claim:
    """From the boxes before, between and behind the coded images."""
    sides, frames, metadata_bytes = (0, 0), 1, 0
    kinds: dict[int, bytes] = {}
    places: dict[int, list[tuple[int, int]]] = {}
    for box in islice(_boxes(data, 0, len(data), _DEPTH), _BOXES):
        body = data[box.start : min(box.end, box.start + 16)].ljust(16, b"\0")
        if box.name == b"ispe":
            sides = max(sides, (_number(body[4:8]), _number(body[8:12])), key=lambda one: one[0] * one[1])
        elif box.name == b"stsz":
            frames = max(frames, _number(body[8:12]))
        elif box.name == b"colr":
            metadata_bytes += box.end - box.start
        elif box.name == b"infe":
            wide = 4 if body[0] >= 3 else 2
            kinds[_number(body[4 : 4 + wide])] = body[6 + wide : 10 + wide]
        elif box.name == b"iloc":
            places |= _places(data[box.start : box.end])
    for item, kind in kinds.items():
        for start, length in places.get(item, []) if kind in _METADATA else []:
            block = data[start : start + length]
            # in front of EXIF stands how far its first byte is away
            metadata_bytes += exif_bytes(block[4 + _number(block[:4]) :]) if kind == b"Exif" else len(block)
    return Claim(*sides, 24, frames=min(frames, limits.max_frames + 1), metadata_bytes=metadata_bytes)


def _number(packed: bytes) -> int:
    return int.from_bytes(packed, "big")


def _boxes(data: bytes, at: int, end: int, depth: int) -> Iterator[_Box]:
    while at + 8 <= end:
        length, name, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif length == 0:
            length = end - at
        if length < head:
            return
        box = _Box(name, at + head, min(end, at + length))
        yield box
        inside = {b"meta": 4, b"iinf": 6 + 2 * (data[box.start : box.start + 1] > b"\0")}.get(name)
        if (name in _PARENTS or inside is not None) and depth:
            yield from _boxes(data, box.start + (inside or 0), box.end, depth - 1)
        at += length


def _places(body: bytes) -> dict[int, list[tuple[int, int]]]:
    """From an iloc box: the extents (offset in the file, bytes) of each item that lies in the file itself."""
    if len(body) < 8:
        return {}
    version, sizes = body[0], int.from_bytes(body[4:6], "big")
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version >= 2 else 2
    at = 6
    found: dict[int, list[tuple[int, int]]] = {}

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(body[at - size : at], "big")

    for _ in range(number(wide)):
        if at >= len(body):
            break
        item = number(wide)
        method = number(2) & 15 if version >= 1 else 0
        number(2)  # which file: always this one
        base = number(base_bytes)
        for _ in range(number(2)):
            if at >= len(body):
                break
            number(index_bytes if version >= 1 else 0)
            start, length = base + number(offset_bytes), number(length_bytes)
            if method == 0:
                found.setdefault(item, []).append((start, length))
    return found
