"""How is one request put to S3, and for how long is it tried? One client per store, and one place for retries."""

import functools
import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.loaders import Loader, create_loader

from winnow_storage import s3_errors
from winnow_storage.backoff import Backoff
from winnow_storage.blobs import Announce, unannounced
from winnow_storage.errors import StoreError, StoreUnavailable
from winnow_storage.retrying import Result, Retrying
from winnow_storage.uri import Location

if TYPE_CHECKING:
    from winnow_storage.s3_quick import QuickReader

# An endpoint that does not take the connection is known after five seconds, a server that falls silent after twenty:
# three silences fit into a request's budget. The client's own retries are off, so that there is one budget.
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
_CONNECTIONS = 32

# A minute rides out a throttled prefix, a gateway's restart, a fail-over; what lasts longer is for the next run.
PATIENT = Backoff(attempts=20, first_wait_s=0.2, longest_wait_s=8.0, budget_s=60.0, sure_attempts=3)
# An endpoint that never answered yet is more often a wrong AWS_ENDPOINT_URL, with a person waiting, than an outage:
# refused connections end within four seconds, black holes within sixteen.
FIRST_CONTACT = Backoff(attempts=4, first_wait_s=0.5, longest_wait_s=2.0, budget_s=10.0)


class S3Client:
    """The client of one store, made at the first request; every failure is one of the store's errors."""

    def __init__(
        self,
        root: Location,
        *,
        retrying: Retrying,
        read_timeout_s: float,
        announce_again: Announce = unannounced,
    ) -> None:
        """`announce_again` is told before a request is tried again; whoever calls knows of the first one."""
        self._root = root
        self._prefix = f"{root.path}/" if root.path else ""
        self._retrying = retrying
        self._read_timeout_s = read_timeout_s
        self._announce_again = announce_again
        self._lock = threading.Lock()
        self._made: Any = None
        self._credentials: Any = None
        self._quick: QuickReader | None = None
        self._quick_made = False
        self._reached = False

    def call(self, verb: str, key: str, once: Callable[[Any], Result]) -> Result:
        """What `once(client)` returns, when asked to `verb` (read, write, list) the object `key`.

        Tried again, whole, after every transient failure: what `once` does must bear being done twice.

        Raises:
            StoreError: whichever of them the failure is.
        """
        client, tries = self._client, itertools.count()

        def attempt() -> Result:
            if next(tries):
                self._announce_again(0)  # what it brings was counted when it was asked for first
            try:
                result = once(client)
            except s3_errors.FAILURES as error:
                self._reached = self._reached or not isinstance(error, s3_errors.UNREACHED)
                raise s3_errors.translate(error, verb=verb, place=self.place(key), endpoint=self.endpoint) from error
            self._reached = True
            return result

        return self._retrying.call(attempt, self._policy)

    def place(self, key: str) -> str:
        """The object's URI, for messages."""
        return f"s3://{self._root.bucket}/{self._prefix}{key}"

    @property
    def endpoint(self) -> str:
        """Where the requests go."""
        return str(self._client.meta.endpoint_url)

    def quick_reader(self) -> "QuickReader | None":
        """The short cut to whole objects, None without credentials."""
        client = self._client
        with self._lock:
            if not self._quick_made:
                self._quick_made = True
                if self._credentials is not None:
                    from winnow_storage.s3_quick import QuickReader

                    self._quick = QuickReader(
                        self._root.bucket,
                        endpoint=str(client.meta.endpoint_url),
                        region=client.meta.region_name,
                        credentials=self._credentials,
                        connect_timeout_s=CONNECT_TIMEOUT_S,
                        timeout_s=self._read_timeout_s,
                    )
            return self._quick

    def _policy(self, error: StoreUnavailable) -> Backoff:
        unreached = isinstance(error.__cause__, s3_errors.UNREACHED)
        return FIRST_CONTACT if unreached and not self._reached else PATIENT

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                config = Config(
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=self._read_timeout_s,
                    max_pool_connections=_CONNECTIONS,
                    retries={"mode": "standard", "total_max_attempts": 1},
                )
                session = botocore.session.get_session()
                session.register_component("data_loader", _loader())
                try:
                    self._made = session.create_client("s3", config=config)
                    self._credentials = session.get_credentials()
                except (*s3_errors.FAILURES, ValueError) as error:  # botocore says ValueError of a malformed endpoint
                    raise self._unmade(error) from error
            return self._made

    def _unmade(self, error: Exception) -> StoreError:
        endpoint = "the endpoint of the AWS settings"
        return s3_errors.translate(error, verb="reach", place=str(self._root), endpoint=endpoint)


@functools.cache
def _loader() -> Loader:
    """What knows the service's description; a second one would parse it again, which takes 60 ms."""
    return create_loader()
