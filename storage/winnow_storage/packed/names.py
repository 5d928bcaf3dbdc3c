"""Which objects are containers, and how is a member of one named? The one place that knows these URIs.

`tar+s3://bucket/a.tar#1536-10240` (offset and length of its bytes), `parquet+s3://bucket/a.parquet#row=17&column=image`
(rows from 0), `pdf+file:///a.pdf#page=3` and `tiff+file:///a.tif#page=3` (pages from 1, as in RFC 8118). Nothing behind
the "#" names the container itself, where it cannot be opened. What stands before the last "#" is an object's canonical
URI, with its own "#"s.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage.errors import SpecError


class Kind(StrEnum):
    """What a container is; the first part of its members' URIs."""

    TAR = "tar"
    PARQUET = "parquet"
    PDF = "pdf"
    TIFF = "tiff"  # if its pages are items: else it is one itself


# Compressed archives cannot be read by ranges; they are here so that they end with a reason that says it.
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
SUFFIXES = {
    **{f".{kind}": kind for kind in (Kind.TAR, Kind.PARQUET, Kind.PDF)},
    **dict.fromkeys(COMPRESSED_TARS, Kind.TAR),
}
_ENDS = tuple(SUFFIXES)
_TIFFS = (".tif", ".tiff")
DOCUMENTS = frozenset({Kind.PDF, Kind.TIFF})  # that are read whole, and whose items are pages
PAGE_DIGITS = 6  # of a page's number in a key: byte order is page order
_SCHEME = re.compile(rf"({'|'.join(Kind)})\+((?:s3|file)://.*)", re.DOTALL)
_TAR = re.compile(r"(\d+)-(\d+)")
_PARQUET = re.compile(r"row=(\d+)&column=([^&]+)")
_PAGE = re.compile(r"page=([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class TarMember:
    """The bytes of a regular file in an archive."""

    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ParquetMember:
    """A row, from 0, of a column of bytes or of structs with a field `bytes`."""

    row: int
    column: str


@dataclass(frozen=True, slots=True)
class PageMember:
    """A page, from 1."""

    page: int


Member = TarMember | ParquetMember | PageMember


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item inside of a container is; `container` is a canonical URI, no `member` the container itself."""

    kind: Kind
    container: str
    member: Member | None


def kind_of(key: str, *, tiff_pages: bool = False) -> Kind | None:
    """What kind of container an object of this name is; None if it is none. A TIFF is one if its pages are items."""
    name = key.lower()
    if tiff_pages and name.endswith(_TIFFS):
        return Kind.TIFF
    if not name.endswith(_ENDS):
        return None
    return next(kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix))


def names_container(pattern: str) -> bool:
    """Whether a file name pattern can only be met by containers."""
    return pattern.lower().endswith(_ENDS)


def uri_base(kind: Kind, container: str) -> str:
    """What the URIs of all members of a container begin with; a fragment follows, or none for the container itself."""
    return f"{kind}+{container}#"


def tar_fragment(offset: int, size_bytes: int) -> str:
    """What names a TarMember."""
    return f"{offset}-{size_bytes}"


def parquet_fragments(rows: pa.StringArray, column: str) -> pa.StringArray:
    """What names the ParquetMembers of `rows` (decimal numbers): there may be millions in a file."""
    return pc.binary_join_element_wise("row=", rows, f"&column={quote(column, safe='')}", "")


def page_fragment(page: int) -> str:
    """What names a PageMember."""
    return f"page={page}"


def parse_place(uri: str) -> Place | None:
    """The place of a member, from its URI; None if `uri` is that of an object.

    Raises:
        SpecError: it begins as a member's and does not go on as one.
    """
    begun = _SCHEME.fullmatch(uri)
    if begun is None:
        return None
    kind = Kind(begun[1])
    container, separator, fragment = begun[2].rpartition("#")
    if separator and not fragment:
        return Place(kind, container, None)
    member = _member(kind, fragment) if separator else None
    if member is None:
        raise SpecError(
            f"{uri!r} names nothing inside of a {kind} file", hint="take the URI as a row of the results has it"
        )
    return Place(kind, container, member)


def _member(kind: Kind, fragment: str) -> Member | None:
    if kind is Kind.TAR and (found := _TAR.fullmatch(fragment)):
        return TarMember(int(found[1]), int(found[2]))
    if kind is Kind.PARQUET and (found := _PARQUET.fullmatch(fragment)):
        return ParquetMember(int(found[1]), unquote(found[2]))
    if kind in DOCUMENTS and (found := _PAGE.fullmatch(fragment)):
        return PageMember(int(found[1]))
    return None
