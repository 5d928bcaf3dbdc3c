"""What is on one page of an S3 listing? Keys, ETags, sizes, storage classes, read 40 times faster than by boto3."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus
from xml.sax.saxutils import unescape

import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage.blobs import Announce, unannounced
from winnow_storage.errors import StoreError, StoreUnavailable
from winnow_storage.found import COLD_CLASSES, found_batch
from winnow_storage.retrying import Retrying
from winnow_storage.s3_client import READ_TIMEOUT_S, S3Client
from winnow_storage.uri import Location

_READ = "WinnowColumns"  # where the columns of a page stand in boto3's answer, if they are read here
_LISTED = ("IsTruncated", "KeyCount", "Name")  # a page has at least one of them
_LIVE = frozenset({"", "STANDARD"})
_FIELDS = tuple(re.compile(f"<{name}>([^<]*)</{name}>").findall for name in ("Key", "ETag", "Size", "StorageClass"))
_FOLDERS = re.compile(r"<CommonPrefixes>\s*<Prefix>([^<]*)</Prefix>").findall


@dataclass(frozen=True, slots=True)
class Page:
    """Up to a thousand neighbours of one listing; keys and folders are relative to the root that is listed."""

    found: pa.RecordBatch  # FOUND, sorted, without folder markers
    folders: tuple[str, ...]  # the common prefixes, if the page was asked to roll them up
    last: str  # the greatest of all that the page names, folder markers included; "" if it names nothing
    more: bool  # whether the store has more behind it


class S3Pages:
    """Pages below a bucket or prefix, of at most `page_rows`, from any number of threads. Settings are AWS' usual ones.

    boto3 signs, sends and tries again. All that costs 90 microseconds of CPU per key if boto3 reads the pages too, 5 as
    they are read here. obstore needs 5 as well, but gives no storage class and fails at keys with "//" (its issue 429).
    """

    def __init__(
        self,
        root: Location,
        *,
        page_rows: int = 1000,
        retrying: Retrying | None = None,
        announce: Announce = unannounced,
    ) -> None:
        """`announce` is told of every request before it is sent."""
        self._root = root
        self._page_rows = page_rows
        self._prefix = f"{root.path}/" if root.path else ""
        self._announce = announce
        self._s3 = S3Client(
            root, retrying=retrying or Retrying(), read_timeout_s=READ_TIMEOUT_S, announce_again=announce
        )
        self._prepared = False

    def after(self, key: str) -> Page:
        """The objects behind `key` ("" for all), in the byte order of their keys.

        Raises:
            StoreError: the store refuses, cannot answer, or does not go on behind `key`.
        """
        page = self._page("", key)
        if page.more and page.last <= key:
            raise StoreError(
                f"{self._root}: the store was asked for what follows {key!r} and answered up to {page.last!r}",
                hint="it does not list as S3 does: name its objects in a corpus file",
            )
        return page

    def folders(self, prefix: str, after: str) -> tuple[tuple[str, ...], bool]:
        """The folders (ending in "/") in the folder `prefix` behind `after`, and whether there are more to see."""
        page = self._page(prefix, after, Delimiter="/")
        return page.folders, page.more

    def next_key(self, after: str) -> str | None:
        """The first key behind `after`."""
        return self._page("", after, MaxKeys=1).last or None

    def _page(self, prefix: str, after: str, **extra: str | int) -> Page:
        extra.setdefault("MaxKeys", self._page_rows)
        if after:
            extra["StartAfter"] = self._prefix + after

        def once(client: Any) -> Mapping[str, Any]:
            self._prepare(client)
            answer: dict[str, Any] = client.list_objects_v2(
                Bucket=self._root.bucket, Prefix=self._prefix + prefix, EncodingType="url", **extra
            )
            if not any(name in answer for name in _LISTED):  # read as a page it would say that nothing is there
                raise StoreUnavailable(
                    f"{self._s3.place(prefix)} was listed with an answer that broke off", hint="try again"
                )
            return answer

        self._announce(0)
        return page_of(self._s3.call("list", prefix, once), skip=len(self._prefix))

    def _prepare(self, client: Any) -> None:
        if not self._prepared:
            # ahead of all of boto3's own: its look for an error inside of a 200 parses the whole body
            client.meta.events.register_first("before-parse.*", _read_ahead, unique_id="winnow-pages")
            self._prepared = True


def page_of(answer: Mapping[str, Any], *, skip: int) -> Page:
    """The page in an answer to ListObjectsV2 as boto3 gives it; `skip` characters of the keys are the root's."""
    if _READ in answer:
        texts, etags, sizes, classes, prefixes = answer[_READ]
    else:
        entries = answer.get("Contents", ())
        texts, etags, sizes, classes = (
            [entry.get(name, "") for entry in entries] for name in ("Key", "ETag", "Size", "StorageClass")
        )
        prefixes = [entry["Prefix"] for entry in answer.get("CommonPrefixes", ())]
    decoded = unquote_plus if answer.get("EncodingType") == "url" else str
    keys = [decoded(text)[skip:] for text in texts]
    folders = tuple(decoded(text)[skip:] for text in prefixes)
    last = max((*keys[-1:], *folders[-1:]), default="")
    cold = [name in COLD_CLASSES for name in classes] if not _LIVE.issuperset(classes) else None
    found = found_batch(keys, [etag.strip('"') for etag in etags], [int(size) for size in sizes], cold)
    markers = [not key or key.endswith("/") for key in keys]
    if any(markers):
        found = found.filter(pc.invert(pa.array(markers)))
    return Page(found, folders, last, bool(answer.get("IsTruncated")))


def _read_ahead(
    operation_model: Any, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Take the page out of an answer before boto3 reads it; what is not plainly a page stays boto3's to read."""
    if operation_model.name != "ListObjectsV2" or response_dict["status_code"] != 200:
        return
    columns = columns_of(response_dict["body"])
    if columns is not None:
        truncated = b"<IsTruncated>true</IsTruncated>" in response_dict["body"]
        customized_response_dict.update({_READ: columns, "EncodingType": "url", "IsTruncated": truncated})
        response_dict["body"] = b"<ListBucketResult/>"


def columns_of(body: bytes) -> tuple[list[str], ...] | None:
    """Encoded keys, ETags, sizes, classes ("" of each where none says one) and encoded common prefixes of a page.

    Text in XML holds no "<", so a pattern finds each field and nothing else, at a fifth of a tree's cost (whose 7,000
    objects wake the garbage collector too). None where that does not hold: no whole page, comments, CDATA or character
    references, keys that are not URL-encoded, or a row without one of the fields.
    """
    text = body.decode(errors="replace")
    if not text.rstrip().endswith("</ListBucketResult>") or "<EncodingType>url</EncodingType>" not in text:
        return None
    if "<!" in text or "&#" in text:
        return None
    keys, etags, sizes, classes = (find(text) for find in _FIELDS)
    folders = _FOLDERS(text)
    rows = text.count("<Contents>")
    whole = len(keys) == len(etags) == len(sizes) == rows and len(folders) == text.count("<CommonPrefixes>")
    if not whole or len(classes) not in (0, rows):
        return None
    etags = [etag.replace("&quot;", "") for etag in etags]
    return _plain(keys), _plain(etags), sizes, classes or [""] * rows, _plain(folders)


def _plain(texts: list[str]) -> list[str]:
    """Without XML's entities: URL-encoding leaves the apostrophe, which some servers then write as one."""
    return [unescape(text, {"&apos;": "'", "&quot;": '"'}) if "&" in text else text for text in texts]
