"""How are many whole objects read with little work? By obstore, at a fraction of boto3's CPU time per request.

It is a short cut only: whatever is not plainly right is answered with None, and the store then asks again by boto3,
which knows every error by name and has the patience.
"""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as ObjectStore

from winnow_storage.blobs import Blob

if TYPE_CHECKING:
    from obstore.store import S3Credential

_IN_A_ROW = 3  # so many answers of None, each with an object there, and the short cut is none in this place
_CREDENTIALS_LAST = timedelta(minutes=10)  # botocore renews what expires a quarter of an hour before it does
_NOWHERE, _DEFAULT_REGION = "aws-global", "us-east-1"  # what botocore says, and signs, where no region is set
_MD5 = re.compile(r"[0-9a-f]{32}")
# object_store takes no empty parts, nor "." and "..", and would read another object's key or none
_ODD_KEY = re.compile(r"^/|//|/$|(^|/)\.{1,2}(/|$)|[\x00-\x1f\x7f]")


class QuickReader:
    """Whole objects of one bucket, by threads at once."""

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str,
        region: str | None,
        credentials: Any,
        connect_timeout_s: float,
        timeout_s: float,
    ) -> None:
        """`credentials` are botocore's, which are asked again as they expire."""
        self._credentials = credentials
        self._failed = 0
        self._store = ObjectStore(
            bucket,
            config={"endpoint": endpoint, "region": region if region and region != _NOWHERE else _DEFAULT_REGION},
            credential_provider=self._provide,
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=connect_timeout_s),
                "timeout": timedelta(seconds=timeout_s),
            },
            retry_config={"max_retries": 0},
        )

    def read(self, key: str) -> Blob | None:
        """The object, its bytes of the length that was announced and, where the ETag is one, of that MD5; or None."""
        try:
            answer = obstore.get(self._store, key)
            data = bytes(answer.bytes())
            size, version = answer.meta["size"], (answer.meta["e_tag"] or "").strip('"')
        except (BaseError, OSError, ValueError):  # NotFoundError and PermissionDeniedError are OSErrors
            return None
        if len(data) != size or not version:
            return None
        if _MD5.fullmatch(version) and hashlib.md5(data, usedforsecurity=False).hexdigest() != version:
            return None
        self._failed = 0
        return Blob(data, version)

    def takes(self, key: str) -> bool:
        """Whether `read` may be asked for an object of this key."""
        return self._failed < _IN_A_ROW and _ODD_KEY.search(key) is None

    def was_needless(self) -> None:
        """Say that an object was there after `read` had given None."""
        self._failed += 1

    def _provide(self) -> "S3Credential":
        frozen = self._credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LAST,
        }
