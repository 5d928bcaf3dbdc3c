"""Which of the store's errors is a failure of S3? One table of codes, for boto3's and the server's own failures."""

from collections.abc import Mapping
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from winnow_storage.errors import BlobArchived, BlobMissing, BlobRefused, StoreDenied, StoreError, StoreUnavailable

# What boto3 and its client raise on the way of one request; any other exception is a defect.
FAILURES = (boto.BotoCoreError, boto.ClientError, ResponseParserError, HTTPError)
# No connection came about: nobody listens, no such name, no answer to the knock, no TLS.
UNREACHED = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError)

_CREDENTIAL_FAILURES = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.ProfileNotFound,
)
# The connection broke or stalled, or the bytes that came are not those that were sent.
_BROKEN = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.IncompleteReadError,
    boto.FlexibleChecksumError,
    ResponseParserError,
    HTTPError,
)

_DENIED = (
    StoreDenied,
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), and that they may read, list and write there",
)
_BUSY = (StoreUnavailable, "the store is busy or broken: try again later")
_FULL = (StoreError, "the store is full: free some space or raise the quota, then run the same command")
_ELSEWHERE = (StoreError, "the bucket lives in another region: set AWS_REGION to it")
_DAMAGED = (StoreUnavailable, "the bytes were damaged on their way: check the network to the store, then try again")
_OTHER = (StoreError, "see the store's own log for this request")
# Any 4xx that the tables do not know, said of one object: InvalidRequest where it is under a key of the customer's own
# (SSE-C), KMS.DisabledException and KMS.KMSInvalidStateException where its key is disabled or about to be deleted.
_REFUSED = (BlobRefused, "mend what the store says of the object, or leave it out")
_OF_AN_OBJECT = ("read", "look at")

# Codes whose HTTP status alone would say something else (a full quota is a 403, a time-out a 400).
_BY_CODE: Mapping[str, tuple[type[StoreError], str]] = {
    "NoSuchBucket": (StoreError, "make the bucket, or correct its name or AWS_ENDPOINT_URL"),
    "QuotaExceeded": _FULL,
    "InsufficientCapacity": _FULL,
    "XMinioStorageFull": _FULL,
    "PermanentRedirect": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "RequestTimeTooSkewed": (StoreDenied, "set this machine's clock"),
    "ExpiredToken": _DENIED,
    "InvalidToken": _DENIED,
    "TokenRefreshRequired": _DENIED,
    "InvalidObjectState": (BlobArchived, "the object is archived: restore it, or leave its folder out of the corpus"),
    "BadDigest": _DAMAGED,
    "IncompleteBody": _DAMAGED,
    "XAmzContentSHA256Mismatch": _DAMAGED,
    "RequestTimeout": _BUSY,
    "SlowDown": _BUSY,
    "Throttling": _BUSY,
}
_BY_STATUS: Mapping[int, tuple[type[StoreError], str]] = {
    301: _ELSEWHERE,
    401: _DENIED,
    403: _DENIED,
    404: (BlobMissing, "check the name"),
    408: _BUSY,
    409: (StoreUnavailable, "another write of the same object is under way: try again"),
    429: _BUSY,
    500: _BUSY,
    502: _BUSY,
    503: _BUSY,
    504: _BUSY,
}


def code_of(error: BaseException) -> str:
    """The server's code of the failure (`NoSuchKey`, or a bare status such as `404`); "" if no server answered."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, boto.ClientError) else ""


def status_of(error: BaseException) -> int:
    """The HTTP status of the failure; 0 if no server answered."""
    if not isinstance(error, boto.ClientError):
        return 0
    metadata: dict[str, Any] = error.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))


def translate(error: Exception, *, verb: str, place: str, endpoint: str) -> StoreError:
    """The store's error for `error`, met when asked to `verb` (read, write, list) `place` at `endpoint`."""
    if isinstance(error, boto.ClientError):
        return _answered(error, f"cannot {verb} {place} at {endpoint}", of_an_object=verb in _OF_AN_OBJECT)
    message = f"cannot {verb} {place} at {endpoint}: {error}"
    if isinstance(error, _CREDENTIAL_FAILURES):
        return StoreDenied(message, hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    if isinstance(error, _BROKEN):
        return StoreUnavailable(message, hint="check that the endpoint runs (AWS_ENDPOINT_URL), then try again")
    return StoreError(message, hint="check AWS_ENDPOINT_URL, the region and the bucket's name")


def _answered(error: boto.ClientError, what: str, *, of_an_object: bool) -> StoreError:
    code, status = code_of(error), status_of(error)
    said = error.response.get("Error", {}).get("Message") or ""
    unknown = _REFUSED if of_an_object and 400 <= status < 500 else _OTHER
    kind, hint = _BY_CODE.get(code) or _BY_STATUS.get(status, unknown)
    return kind(f"{what}: {code} (HTTP {status}){f': {said}' if said else ''}", hint=hint)
