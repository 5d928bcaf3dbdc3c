"""Which pages does a TIFF hold? Its chain of directories, read by ranges (TIFF 6.0, section 2)."""

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

from winnow_storage.packed.index import Index
from winnow_storage.packed.names import PAGE_DIGITS, page_fragment

BLOCK_BYTES = 64 << 10  # read at a time: the directories of a scan lie far apart, and each is small
_ORDERS = {b"II": "<", b"MM": ">"}
_CLASSIC, _BIG = 42, 43
_SUBFILE_TYPE, _SHORT = 254, 3
# Another face of a page is no page: a reduced one (bit 0), a mask of its transparency (bit 2)
_NO_PAGE = 0b101
_NO_TIFF = "it is no TIFF file"


def tiff_index(raw: io.RawIOBase, *, max_pages: int) -> Index:
    """Its pages, from 1; thumbnails and masks are counted and left out. Closes `raw`.

    A chain that goes round in a circle, leads out of the file, or is longer than `max_pages` is said to be damaged.
    """
    with io.BufferedReader(raw, BLOCK_BYTES) as file:
        chain = _chain(file)
        if chain is None:
            return Index.unopened(_NO_TIFF)
        found: list[tuple[str, str | None, int | None]] = []
        seen: dict[int, int] = {}
        at = chain.first
        while at:
            number = len(seen) + 1
            if at in seen:
                return Index.of(found, f"its page {number - 1} leads back to page {seen[at]}")
            if number > max_pages:
                return Index.unopened(f"more than {max_pages} pages, which is the limit (limits.max_frames)")
            seen[at] = number
            directory = chain.read(file, at)
            if directory is None:
                return Index.of(found, f"its page {number} begins at byte {at}, where no directory is")
            at, subfile_type = directory
            if not subfile_type & _NO_PAGE:
                found.append((f"{number:0{PAGE_DIGITS}d}", page_fragment(number), None))
    return Index.of(found, None if found else "it has no pages")


@dataclass(frozen=True, slots=True)
class _Chain:
    order: str
    is_big: bool
    first: int

    def read(self, file: BinaryIO, at: int) -> tuple[int, int] | None:
        """Where the next directory is, and this one's NewSubfileType; None if there is no directory."""
        head, number = ("Q", "Q") if self.is_big else ("H", "I")
        counted, after = struct.Struct(self.order + head), struct.Struct(self.order + number)
        entry = struct.Struct(f"{self.order}HH{number}")
        step = entry.size + after.size
        file.seek(at)
        packed = file.read(counted.size)
        count = counted.unpack(packed)[0] if len(packed) == counted.size else 0
        if not 1 <= count <= 0xFFFF:
            return None
        tags = file.read(count * step)
        if len(tags) < count * step:
            return None
        subfile_type = 0
        for place in range(0, len(tags), step):
            tag, kind, _ = entry.unpack_from(tags, place)
            if tag == _SUBFILE_TYPE:
                (subfile_type,) = struct.unpack_from(
                    self.order + ("H" if kind == _SHORT else "I"), tags, place + entry.size
                )
        packed = file.read(after.size)
        return after.unpack(packed)[0] if len(packed) == after.size else 0, subfile_type


def _chain(file: BinaryIO) -> _Chain | None:
    head = file.read(16)
    order = _ORDERS.get(head[:2])
    if order is None or len(head) < 8:
        return None
    magic, first = struct.unpack_from(f"{order}HI", head, 2)
    if magic == _CLASSIC:
        return _Chain(order, is_big=False, first=first)
    if magic == _BIG and len(head) == 16:
        return _Chain(order, is_big=True, first=struct.unpack_from(f"{order}Q", head, 8)[0])
    return None
