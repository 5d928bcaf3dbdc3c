"""Which files does a tar archive hold, and where? Its headers, read by the standard library over ranged reads."""

import io
import os
import posixpath
import tarfile
from typing import TYPE_CHECKING

from winnow_storage.packed.index import Index
from winnow_storage.packed.names import tar_fragment

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LARGE_BYTES = 1 << 20  # of a member: skipping it costs a request and saves as much
_SHORT_BYTES = 16 << 10
MAX_HEADER_BYTES = 16 << 20  # of the names and attributes of one member; more is an attack on memory
MAX_MEMBER_BYTES = 1 << 60
_TAIL_BYTES = 64 << 10  # behind the end mark, looked at for what was joined to the archive
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
# What tarfile raises on odd headers beside its own errors
_PARSER_ERRORS = (tarfile.TarError, ValueError, LookupError, ArithmeticError, EOFError, RecursionError)


def tar_index(raw: io.RawIOBase, *, buffer_bytes: int) -> Index:
    """The regular files of an archive; the last of several of one name, as tar extracts them.

    Names lose leading slashes and dots. What is no regular file has no fragment (links, devices, sparse files);
    directories are left out. Headers lie between the data: `buffer_bytes` are read at a time as long as members are
    small, and little behind a large one, as its like are skipped. Closes `raw`.
    """
    found: dict[str, tuple[str | None, int | None]] = {}
    escaping: list[str] = []
    ahead = _Ahead(raw, buffer_bytes)
    with _Headers(ahead, buffer_bytes) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                _find(archive, ahead, found, escaping)
                wrong = _wrong_at_end(file, archive.offset)
        except _PARSER_ERRORS as error:
            wrong = f"it is damaged behind {len(found)} members: {error}" if found else _wrong(file, error)
    if escaping:
        names = f"{len(escaping)} members have '..' in their names and are left out (the first: {escaping[0]!r})"
        wrong = names if wrong is None else f"{wrong}; {names}"
    return Index.of(((name, *where) for name, where in found.items()), wrong)


def _find(
    archive: tarfile.TarFile, ahead: "_Ahead", found: dict[str, tuple[str | None, int | None]], escaping: list[str]
) -> None:
    end = 0
    while (member := archive.next()) is not None:
        # a negative size leads tarfile back to where it was, for ever (CVE-2025-8194)
        if not 0 <= member.size <= MAX_MEMBER_BYTES or archive.offset <= end:
            raise tarfile.ReadError(f"{_plain(member.name)!r} claims {member.size} bytes")
        end = archive.offset
        ahead.is_short = member.size >= LARGE_BYTES
        archive.members.clear()  # type: ignore[attr-defined]  # it keeps them all, a kilobyte each
        if member.isdir():
            continue
        name = _plain(member.name)
        if name is None:
            escaping.append(member.name)
        elif member.isreg() and not member.issparse():
            found[name] = tar_fragment(member.offset_data, member.size), member.size
        else:
            found[name] = None, None


class _Ahead(io.RawIOBase):
    """What `raw` has, in long or short reads."""

    def __init__(self, raw: io.RawIOBase, long_bytes: int) -> None:
        super().__init__()
        self._raw = raw
        self._long_bytes = long_bytes
        self.is_short = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:
        most = min(_SHORT_BYTES, self._long_bytes) if self.is_short else self._long_bytes
        return self._raw.readinto(memoryview(buffer).cast("B")[:most])

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Headers(io.BufferedReader):
    """What tarfile reads headers from: never more at a time than headers may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return super().read(size)


def _plain(name: str) -> str | None:
    """A name as a part of a key: no leading "/", no "." parts; None if it leads out of the archive."""
    if ".." in name.split("/"):
        return None
    path = posixpath.normpath(f"/{name}").lstrip("/")
    # tarfile gives bytes that are not UTF-8 as lone surrogates, which no column of text holds
    return path.encode("utf-8", "backslashreplace").decode() or None


def _wrong_at_end(file: io.BufferedReader, offset: int) -> str | None:
    """A header that is none is the end of an archive to tarfile; the true end is a block of zeros."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:
        return "it has no end mark, so it may be cut off"
    if any(block):
        return f"it is damaged at byte {offset}: no header of a member"
    if any(file.read(_TAIL_BYTES)):
        return f"something follows its end mark at byte {offset}: archives are joined by tar --concatenate, not cat"
    return None


def _wrong(file: io.BufferedReader, error: Exception) -> str:
    file.seek(0)
    start = file.read(tarfile.BLOCKSIZE)
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return f"it is compressed ({name}), which cannot be read by ranges: store it as plain .tar"
    return f"it is no tar archive, or damaged: {error}"
