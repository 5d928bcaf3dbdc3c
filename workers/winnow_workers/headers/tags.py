"""What do the tags of a TIFF directory say, in TIFF files and EXIF? Read lazily: no value is copied unasked."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

ORIENTATION = 0x0112
# TIFF 6.0, section 2, and EXIF 2.32; BigTIFF adds 16 to 18
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_EXIF = b"Exif\0\0"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the numbers of a file are written, and where its first directory is."""

    order: str  # of struct: "<" or ">"
    is_big: bool
    first: int

    @property
    def head(self) -> struct.Struct:
        """How many tags follow."""
        return struct.Struct(f"{self.order}{'Q' if self.is_big else 'H'}")

    @property
    def entry(self) -> struct.Struct:
        """Tag, type, count."""
        return struct.Struct(f"{self.order}{'HHQ' if self.is_big else 'HHI'}")

    @property
    def offset(self) -> struct.Struct:
        """A place in the file."""
        return struct.Struct(f"{self.order}{'Q' if self.is_big else 'I'}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A tag: `at` is where its value is, `bytes` how long that is."""

    kind: int
    count: int
    at: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Directory:
    """The tags of one directory; of a tag that is there twice the last.

    `value_bytes` is what the values take, by tag, that lie elsewhere in the file; repeated ones are added up. `next_at`
    is where the next directory begins, 0 for none.
    """

    layout: Layout
    at: int
    entries: Mapping[int, Entry] = field(default_factory=dict)
    value_bytes: Mapping[int, int] = field(default_factory=dict)
    next_at: int = 0

    def numbers(self, data: bytes, tag: int, most: int = 16) -> tuple[int, ...]:
        """The first whole numbers of a tag's value; none if it is absent, of another type, or not in the file."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _CODES:
            return ()
        count = min(entry.count, most)
        numbers = struct.Struct(f"{self.layout.order}{count}{_CODES[entry.kind]}")
        if entry.at + numbers.size > len(data):
            return ()
        return numbers.unpack_from(data, entry.at)

    def value(self, data: bytes, tag: int) -> bytes | None:
        """The bytes of a tag's value; None if it is absent, or not in the file."""
        entry = self.entries.get(tag)
        if entry is None or entry.at + entry.bytes > len(data):
            return None
        return data[entry.at : entry.at + entry.bytes]

    def number(self, data: bytes, tag: int, default: int = 0) -> int:
        """The first whole number of a tag's value."""
        return next(iter(self.numbers(data, tag, 1)), default)


def layout_of(data: bytes) -> Layout | None:
    """How a TIFF file is written; None if it is none."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return None
    magic, first = struct.unpack_from(f"{order}HI", data, 2)
    if magic == 42:
        return Layout(order, is_big=False, first=first)
    if magic == 43 and len(data) >= 16:
        return Layout(order, is_big=True, first=struct.unpack_from(f"{order}Q", data, 8)[0])
    return None


def directory_at(data: bytes, layout: Layout, at: int) -> Directory | None:
    """The directory that begins at a byte; None if it does not lie in the file."""
    head, entry = layout.head, layout.entry
    if at < 8 or at + head.size > len(data):
        return None
    (count,) = head.unpack_from(data, at)
    inline, step = layout.offset.size, entry.size + layout.offset.size
    start, end = at + head.size, at + head.size + count * step
    if count < 1 or end > len(data):
        return None
    entries: dict[int, Entry] = {}
    value_bytes: dict[int, int] = {}
    for place in range(start, end, step):
        tag, kind, values = entry.unpack_from(data, place)
        size = values * _TYPE_BYTES.get(kind, 1)
        where = place + entry.size
        if size > inline:
            (where,) = layout.offset.unpack_from(data, where)
            # a value that does not lie in the file costs what lies there of it
            value_bytes[tag] = value_bytes.get(tag, 0) + max(0, min(size, len(data) - where))
        entries[tag] = Entry(kind, values, where, size)
    after = layout.offset.unpack_from(data, end)[0] if end + inline <= len(data) else 0
    return Directory(layout, at, entries, value_bytes, after)


def directories(data: bytes, layout: Layout) -> Iterator[Directory]:
    """One directory after another, for ever where they go round in a circle."""
    at = layout.first
    while at and (found := directory_at(data, layout, at)) is not None:
        yield found
        at = found.next_at


def exif_directory(exif: bytes) -> tuple[bytes, Directory] | None:
    """The bytes that an EXIF block counts from, and its first directory."""
    body = exif[len(_EXIF) :] if exif.startswith(_EXIF) else exif
    layout = layout_of(body)
    found = None if layout is None else directory_at(body, layout, layout.first)
    return None if found is None else (body, found)


def exif_orientation(exif: bytes) -> int | None:
    """How an image is to be turned (1 to 8) by its EXIF block; None if that does not say."""
    found = exif_directory(exif)
    if found is None:
        return None
    body, directory = found
    value = directory.number(body, ORIENTATION)
    return value if 1 <= value <= 8 else None


def exif_bytes(exif: bytes) -> int:
    """What the values of an EXIF block take when they are read, many of which may be the same bytes."""
    found = exif_directory(exif)
    return len(exif) + (0 if found is None else sum(found[1].value_bytes.values()))
