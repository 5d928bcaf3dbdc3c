"""How does an S3 bucket keep the promises of an object store? Single conditional puts through boto3."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import boto3.session
from botocore.config import Config

from winnow_storage import s3_errors
from winnow_storage.blobs import BlobInfo
from winnow_storage.errors import BlobMissing, StoreError, StoreUnavailable
from winnow_storage.uri import Location

# A dead endpoint is known after seconds; a slow one has a minute per read. Retries wait 1, 2, 4 s at most.
_CONFIG = {
    "connect_timeout": 5,
    "read_timeout": 60,
    "max_pool_connections": 32,
    "retries": {"mode": "standard", "total_max_attempts": 4},
}
BODY_ATTEMPTS = 3  # boto3 tries requests again, but not a body that breaks off
CONFLICT_ATTEMPTS = 6
CONFLICT_WAIT_S = 0.2


class S3Store:
    """A BlobStore over a bucket or a prefix of it. Credentials, region and endpoint are the usual AWS settings."""

    def __init__(self, root: Location) -> None:
        self.root = root
        self._prefix = f"{root.path}/" if root.path else ""
        self._lock = threading.Lock()
        self._made: Any = None
        self._bucket_seen = False

    def get(self, key: str) -> bytes:
        """Raises BlobMissing if the object is not there, StoreUnavailable if it came short."""
        return self._read(key, {})

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`, fewer at the end of the object. Raises BlobMissing."""
        if length <= 0:
            return b""
        try:
            return self._read(key, {"Range": f"bytes={start}-{start + length - 1}"})
        except StoreError as error:
            if error.__cause__ is not None and s3_errors.status_of(error.__cause__) == 416:  # starts behind the end
                return b""
            raise

    def info(self, key: str) -> BlobInfo | None:
        """None if the object is not there; StoreError if the bucket is not."""
        try:
            with self._translated("look at", key):
                head = self._client.head_object(Bucket=self.root.bucket, Key=self._full(key))
        except BlobMissing:
            self._check_bucket()  # the answer to a HEAD has no body that would tell the two apart
            return None
        return BlobInfo(key, int(head["ContentLength"]), _version(head["ETag"]))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Whether this call created the object. After a retried time-out False may speak of this call's own bytes."""
        for attempt in range(CONFLICT_ATTEMPTS):
            try:
                self._client.put_object(Bucket=self.root.bucket, Key=self._full(key), Body=data, IfNoneMatch="*")
            except s3_errors.FAILURES as error:
                status = s3_errors.status_of(error)
                if status == 412:
                    return False
                if status == 501:
                    return self._put_after_look(key, data)
                if status != 409:
                    raise self._translate(error, "write", key) from error
            else:
                return True
            time.sleep(CONFLICT_WAIT_S * attempt)  # another write of this key is under way: its end decides
        raise StoreUnavailable(
            f"cannot write {self._place(key)}: the store answered 409 (a concurrent write) {CONFLICT_ATTEMPTS} times",
            hint="try again",
        )

    def put(self, key: str, data: bytes) -> None:
        """Create or replace atomically."""
        with self._translated("write", key):
            self._client.put_object(Bucket=self.root.bucket, Key=self._full(key), Body=data)

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

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                try:
                    self._made = boto3.session.Session().client("s3", config=Config(**_CONFIG))
                except (*s3_errors.FAILURES, ValueError) as error:  # boto3 says ValueError of a malformed endpoint
                    raise s3_errors.translate(
                        error, verb="reach", place=str(self.root), endpoint="the endpoint of the AWS settings"
                    ) from error
            return self._made

    def _read(self, key: str, extra: dict[str, str]) -> bytes:
        for _ in range(BODY_ATTEMPTS):
            with self._translated("read", key):
                answer = self._client.get_object(Bucket=self.root.bucket, Key=self._full(key), **extra)
            with contextlib.closing(answer["Body"]) as body, contextlib.suppress(*s3_errors.BROKEN_OFF):
                data: bytes = body.read()
                if len(data) == int(answer["ContentLength"]):
                    return data
        raise StoreUnavailable(
            f"{self._place(key)} at {self._endpoint} broke off {BODY_ATTEMPTS} times while it was read",
            hint="check the network to the store, then try again",
        )

    def _put_after_look(self, key: str, data: bytes) -> bool:
        """For a store without conditional puts (501), which the probe finds out: right for a single writer only."""
        if self.info(key) is not None:
            return False
        self.put(key, data)
        return True

    def _pages(self, prefix: str, **extra: str) -> Iterator[dict[str, Any]]:
        with self._translated("list", prefix):
            pages = self._client.get_paginator("list_objects_v2")
            yield from pages.paginate(Bucket=self.root.bucket, Prefix=self._prefix + prefix, **extra)

    def _check_bucket(self) -> None:
        if self._bucket_seen:
            return
        try:
            self._client.head_bucket(Bucket=self.root.bucket)
        except s3_errors.FAILURES as error:
            if s3_errors.status_of(error) == 404:
                raise StoreError(
                    f"there is no bucket {self.root.bucket!r} at {self._endpoint}",
                    hint="make the bucket, or correct its name or AWS_ENDPOINT_URL",
                ) from error
        self._bucket_seen = True

    def _full(self, key: str) -> str:
        if not key:
            raise StoreError(f"an empty key names no object in {self.root}")
        return self._prefix + key

    def _place(self, key: str) -> str:
        return f"s3://{self.root.bucket}/{self._prefix}{key}"

    @property
    def _endpoint(self) -> str:
        return str(self._client.meta.endpoint_url)

    def _translate(self, error: Exception, verb: str, key: str) -> StoreError:
        return s3_errors.translate(error, verb=verb, place=self._place(key), endpoint=self._endpoint)

    @contextlib.contextmanager
    def _translated(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except s3_errors.FAILURES as error:
            raise self._translate(error, verb, key) from error


def _version(etag: str) -> str:
    return etag.strip('"')
