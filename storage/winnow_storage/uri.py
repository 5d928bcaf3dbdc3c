"""How is a place in a store named? Folders, `file://` URIs and `s3://` URIs become one Location."""

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from winnow_storage.errors import SpecError

SCHEMES = ("file", "s3")


@dataclass(frozen=True, slots=True)
class Location:
    """A place: `path` is absolute for `file`, and without a leading slash for `s3` (where `bucket` is set)."""

    scheme: str
    bucket: str
    path: str

    def __truediv__(self, part: str) -> "Location":
        return replace(self, path=str(PurePosixPath(self.path) / part) if self.path else part)

    def __str__(self) -> str:
        if self.scheme == "file":
            return self.path
        return f"s3://{self.bucket}/{self.path}" if self.path else f"s3://{self.bucket}"

    @property
    def uri(self) -> str:
        """The canonical URI: percent-encoded `file://`, or `s3://bucket/key` with the key as it is."""
        return Path(self.path).as_uri() if self.scheme == "file" else str(self)

    @property
    def parent(self) -> "Location":
        """The folder or prefix that holds this place."""
        parent = str(PurePosixPath(self.path).parent)
        return replace(self, path="" if parent == "." else parent)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name


def parse(text: str, *, base: Path | None = None) -> Location:
    """Read a folder, a `file://` URI or an `s3://bucket/prefix` URI; relative folders are relative to `base`.

    Raises:
        SpecError: another scheme, or no bucket.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Location("file", "", _absolute(Path(text).expanduser(), base))
    if scheme == "file":
        return Location("file", "", _absolute(unquote(urlsplit(text).path), base))
    if scheme != "s3":
        raise SpecError(
            f"{text!r}: the scheme {scheme!r} is not supported",
            hint="use a folder, file:///path or s3://bucket/prefix (gs:// and others are not built yet)",
        )
    bucket, _, path = rest.partition("/")
    if not bucket:
        raise SpecError(f"{text!r} names no bucket", hint="write s3://bucket/prefix")
    return Location("s3", bucket, path.strip("/"))


def _absolute(path: Path | str, base: Path | None) -> str:
    # abspath takes out dots without following links, so the place keeps the name that the user gave it
    return os.path.abspath(path if base is None else base / path)  # noqa: PTH100
