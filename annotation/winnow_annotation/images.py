"""How does an annotator's browser get an image? By a reference that Label Studio resolves whenever it is opened.

No URL that expires is ever written into a task: a file is named by its path below Label Studio's document root, an
object by its `s3://` URI. A storage of the project, which is never synced, is what allows Label Studio to read them.
"""

import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from winnow_storage.blobs import BlobStore
from winnow_storage.errors import SpecError
from winnow_storage.ids import digest_value
from winnow_storage.packed.names import parse_place
from winnow_storage.uri import Location, parse

# What every current browser opens. Others (TIFF) get a copy that it does, as do items inside of other files.
_SHOWN_FORMATS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "avif"})

# From the URI and version of an item to a JPEG of the same size in pixels, upright, so that coordinates stay true.
Render = Callable[[str, str], bytes]


@dataclass(frozen=True, slots=True)
class ImageSources:
    """What a project's storages must cover: folders and buckets."""

    folders: tuple[str, ...]
    buckets: tuple[str, ...]


def image_reference(uri: str, *, document_root: str) -> str:
    """What a task's `image` says: `/data/local-files/?d=...` for a file, the URI itself for an object.

    Raises:
        SpecError: a file outside of Label Studio's document root.
    """
    place = parse(uri)
    if place.scheme == "s3":
        return str(place)
    return f"/data/local-files/?d={quote(_below_root(place, document_root))}"


def image_sources(uris: Iterable[str], *, document_root: str) -> ImageSources:
    """The fewest folders (strictly below the document root) and the buckets that hold `uris`.

    Raises:
        SpecError: a file outside of the document root, or directly in it (Label Studio serves only folders below).
    """
    places = [parse(uri) for uri in uris]
    folders = {posixpath.dirname(_below_root(place, document_root)) for place in places if place.scheme == "file"}
    if "" in folders:
        raise SpecError(
            f"images lie directly in Label Studio's document root {document_root}, from which it does not serve",
            hint="move them into a folder, or start Label Studio with the folder above as document root",
        )
    tops: dict[str, list[str]] = {}
    for folder in folders:
        tops.setdefault(folder.partition("/")[0], []).append(folder)
    shared = tuple(str(PurePosixPath(document_root) / posixpath.commonpath(tops[top])) for top in sorted(tops))
    return ImageSources(shared, tuple(sorted({place.bucket for place in places if place.scheme == "s3"})))


def showable_uri(uri: str, version: str, image_format: str | None, *, output: BlobStore, render: Render) -> str:
    """`uri`, or that of a copy below `output` where it is no object, or one in a format that browsers do not open.

    Raises:
        StoreError: the image could not be read, or the copy not written.
    """
    if parse_place(uri) is None:
        suffix = image_format or parse(uri).name.rpartition(".")[2]
        if suffix.lower() in _SHOWN_FORMATS:
            return uri
    key = f"review/images/{digest_value([uri, version])[:32]}.jpg"
    if output.info(key) is None:
        output.put_if_absent(key, render(uri, version))
    return _child(output.root, key).uri


def _below_root(place: Location, document_root: str) -> str:
    root = f"{document_root.rstrip('/')}/"  # as text: there are as many images as review tasks, and paths are slow
    if not place.path.startswith(root):
        raise SpecError(
            f"Label Studio cannot show {place.path}: it is not below its document root {document_root}",
            hint="start it with LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=<a folder above the images> and write the same "
            "folder into review.label_studio.document_root",
        )
    return place.path.removeprefix(root)


def _child(root: Location, key: str) -> Location:
    for part in key.split("/"):
        root = root / part
    return root
