"""How does an S3 bucket keep the promises of an object store? Single conditional puts, and bytes that are checked."""

import contextlib
import functools
import hashlib
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from winnow_storage import s3_errors
from winnow_storage.blobs import Announce, Blob, BlobInfo, unannounced
from winnow_storage.errors import BlobMissing, BlobRefused, BlobReplaced, StoreError, StoreUnavailable
from winnow_storage.retrying import Retrying
from winnow_storage.s3_client import READ_TIMEOUT_S, S3Client
from winnow_storage.uri import Location

# Metadata of an object: the call of put_if_absent that made it, so that a call knows its own earlier request again.
MARK = "winnow-put"
_MD5 = re.compile(r"[0-9a-f]{32}")  # an ETag of a multipart upload ends in "-" and the number of its parts
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(?:\d+|\*)")
_LISTED = ("IsTruncated", "KeyCount", "Name")  # an answer to a listing has at least one of them


@dataclass(frozen=True, slots=True)
class _Range:
    """A part of the object `key` (`full` with the prefix), of one version or whichever is there."""

    key: str
    full: str
    start: int
    length: int
    version: str | None


class S3Store:
    """A BlobStore over a bucket or a prefix of it. Credentials, region and endpoint are the usual AWS settings."""

    def __init__(
        self,
        root: Location,
        *,
        retrying: Retrying | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
        announce_again: Announce = unannounced,
    ) -> None:
        """`announce_again` is told of the requests that a call which reads sends beyond its first, before each."""
        self.root = root
        self.conditional_puts = True
        self._prefix = f"{root.path}/" if root.path else ""
        self._announce_again = announce_again
        self._s3 = S3Client(
            root,
            retrying=retrying or Retrying(),
            read_timeout_s=read_timeout_s,
            announce_again=announce_again,
        )
        self._bucket_seen = False

    def get(self, key: str) -> bytes:
        """Raises BlobMissing if the object is not there."""
        return self.read(key).data

    def read(self, key: str) -> Blob:
        """All bytes of one object, checked against their length and, where the ETag is one, their MD5.

        Raises:
            BlobMissing: it is not there.
        """
        full = self._full(key)
        return self._s3.call("read", key, lambda client: self._read(client, key, full))

    def read_bulk(self, key: str) -> Blob:
        """As `read`, by the short cut if it leads there."""
        full, quick = self._full(key), self._s3.quick_reader()
        if quick is None or not quick.takes(full):
            return self.read(key)
        if (blob := quick.read(full)) is not None:
            return blob
        self._announce_again(0)
        blob = self.read(key)
        quick.was_needless()
        return blob

    def get_range(self, key: str, start: int, length: int, *, version: str | None = None) -> bytes:
        """`length` bytes from `start`, fewer at the end of the object. Raises BlobMissing, BlobReplaced."""
        if length <= 0:
            return b""
        wanted = _Range(key, self._full(key), start, length, version)
        return self._s3.call("read", key, lambda client: self._read_range(client, wanted))

    def info(self, key: str) -> BlobInfo | None:
        """None if the object is not there; StoreError if the bucket is not."""
        full = self._full(key)
        try:
            head = self._s3.call("look at", key, lambda client: client.head_object(Bucket=self.root.bucket, Key=full))
        except BlobMissing:
            self._check_bucket()  # the answer to a HEAD has no body that would tell the two apart
            return None
        except BlobRefused:
            self._announce_again(0)
            self.get_range(key, 0, 1)  # nor one that would tell an expired token from an object that is not given
            raise
        return BlobInfo(key, int(head["ContentLength"]), _version(head["ETag"]))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Whether this call created the object.

        A request whose answer got lost may have created it. So the same conditional put is made again, and a 412 is
        this call's own success if the object bears its mark.
        """
        if not self.conditional_puts:
            return self._put_after_look(key, data)
        full, mark, asked = self._full(key), uuid.uuid4().hex, False

        def once(client: Any) -> bool | None:
            nonlocal asked
            asked_before, asked = asked, True
            where = {"Bucket": self.root.bucket, "Key": full}
            try:
                client.put_object(**where, Body=data, IfNoneMatch="*", Metadata={MARK: mark})
            except s3_errors.FAILURES as error:
                status = s3_errors.status_of(error)
                if status == 412:
                    return asked_before and client.head_object(**where)["Metadata"].get(MARK) == mark
                if status == 501:
                    return None
                raise
            return True

        created = self._s3.call("write", key, once)
        return self._put_after_look(key, data) if created is None else created

    def put(self, key: str, data: bytes) -> None:
        """Create or replace atomically."""
        full = self._full(key)
        self._s3.call("write", key, lambda client: client.put_object(Bucket=self.root.bucket, Key=full, Body=data))

    def walk(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Every object whose key starts with `prefix`, sorted by the UTF-8 bytes of the key, without folder markers."""
        for page in self._pages(prefix):
            for entry in page.get("Contents", ()):
                key = entry["Key"][len(self._prefix) :]
                if key and not key.endswith("/"):
                    yield BlobInfo(key, int(entry["Size"]), _version(entry["ETag"]))

    def folders(self, prefix: str = "") -> list[str]:
        """The folders below the folder `prefix`, sorted, without slashes."""
        skip = len(self._prefix) + len(prefix)
        parts = [
            entry["Prefix"][skip:].rstrip("/")
            for page in self._pages(prefix, Delimiter="/")
            for entry in page.get("CommonPrefixes", ())
        ]
        return sorted(filter(None, parts), key=lambda part: part.encode())

    def _read(self, client: Any, key: str, full: str) -> Blob:
        first, first_is_sure = self._read_whole(client, key, full)
        if first_is_sure:
            return first
        # Either the bytes were damaged on their way, or this store's ETags are no digests: what comes the same
        # twice, and as long as the object is, is what is stored.
        self._announce_again(len(first.data))
        second, second_is_sure = self._read_whole(client, key, full)
        if second_is_sure:
            return second
        if second == first:
            self._announce_again(0)
            head = client.head_object(Bucket=self.root.bucket, Key=full)
            if (int(head["ContentLength"]), _version(head["ETag"])) == (len(second.data), second.version):
                return second
        raise self._damaged(key, "did not come whole, or not with the same bytes twice")

    def _read_whole(self, client: Any, key: str, full: str) -> tuple[Blob, bool]:
        """The object, and whether its bytes are known to be those that were stored."""
        answer = client.get_object(Bucket=self.root.bucket, Key=full)
        blob = Blob(self._body(answer, key), _version(answer["ETag"]))
        if not _says_md5(answer):
            return blob, True
        return blob, hashlib.md5(blob.data, usedforsecurity=False).hexdigest() == blob.version

    def _read_range(self, client: Any, wanted: "_Range") -> bytes:
        key, start, length = wanted.key, wanted.start, wanted.length
        asked = f"bytes={start}-{start + length - 1}"
        condition = {} if wanted.version is None else {"IfMatch": f'"{wanted.version}"'}
        try:
            answer = client.get_object(Bucket=self.root.bucket, Key=wanted.full, Range=asked, **condition)
        except s3_errors.FAILURES as error:
            if s3_errors.status_of(error) == 416:  # starts behind the end
                return b""
            if s3_errors.status_of(error) == 412:
                raise self._replaced(key) from error
            raise
        data = self._body(answer, key)
        if wanted.version not in (None, _version(answer["ETag"])):  # it does not know the condition
            raise self._replaced(key)
        given = _RANGE.fullmatch(answer.get("ContentRange", ""))
        if given is None:  # it does not know ranges and sent the whole
            return data[start : start + length]
        if int(given[1]) != start or len(data) != int(given[2]) - start + 1 or len(data) > length:
            raise self._damaged(key, f"came with {len(data)} bytes when asked for {asked} ({given[0]})")
        return data

    def _body(self, answer: Mapping[str, Any], key: str) -> bytes:
        with contextlib.closing(answer["Body"]) as body:
            data: bytes = body.read()
        if len(data) != int(answer["ContentLength"]):
            raise self._damaged(key, f"broke off after {len(data)} of {answer['ContentLength']} bytes")
        return data

    def _put_after_look(self, key: str, data: bytes) -> bool:
        """For a store without conditional puts: right for a single writer only, and the probe says so."""
        self.conditional_puts = False
        if self.info(key) is not None:
            return False
        self.put(key, data)
        return True

    def _pages(self, prefix: str, **extra: str) -> Iterator[dict[str, Any]]:
        while True:
            page = self._s3.call("list", prefix, functools.partial(self._page, prefix, extra))
            yield page
            if not page.get("IsTruncated"):
                return
            self._announce_again(0)
            extra["ContinuationToken"] = page["NextContinuationToken"]

    def _page(self, prefix: str, extra: Mapping[str, str], client: Any) -> dict[str, Any]:
        page: dict[str, Any] = client.list_objects_v2(Bucket=self.root.bucket, Prefix=self._prefix + prefix, **extra)
        if not any(name in page for name in _LISTED) or (
            page.get("IsTruncated") and "NextContinuationToken" not in page
        ):
            raise self._damaged(prefix, "was listed with an answer that broke off")  # an empty one reads as "nothing"
        return page

    def _check_bucket(self) -> None:
        if self._bucket_seen:
            return
        self._announce_again(0)
        try:
            self._s3.call("look at", "", lambda client: client.head_bucket(Bucket=self.root.bucket))
        except BlobMissing as error:
            raise StoreError(
                f"there is no bucket {self.root.bucket!r} at {self._s3.endpoint}",
                hint="make the bucket, or correct its name or AWS_ENDPOINT_URL",
            ) from error
        except StoreUnavailable:
            raise
        except StoreError:
            pass  # whoever may not look at the bucket was nevertheless answered about the object
        self._bucket_seen = True

    def _full(self, key: str) -> str:
        if not key:
            raise StoreError(f"an empty key names no object in {self.root}")
        return self._prefix + key

    def _replaced(self, key: str) -> BlobReplaced:
        return BlobReplaced(f"{self._s3.place(key)} was replaced since it was listed")

    def _damaged(self, key: str, what: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._s3.place(key)} at {self._s3.endpoint} {what}",
            hint="check the network to the store, then try again",
        )


def _version(etag: str) -> str:
    return etag.strip('"')


def _says_md5(answer: Mapping[str, Any]) -> bool:
    """Whether the ETag claims to be the MD5 of the body; under a KMS or customer key it is none, as the answer says.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    if str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in answer:
        return False
    return _MD5.fullmatch(_version(answer["ETag"])) is not None
