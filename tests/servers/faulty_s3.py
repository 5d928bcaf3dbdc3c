"""What does a client see of an S3 server behind a bad network? A proxy on loopback that spoils requests by a plan.

The signature of a request covers its Host, so the proxy passes that header on unchanged; the server does not mind.
Where a fault changes a header that is signed, the proxy signs anew.
Point AWS_ENDPOINT_URL at `endpoint_url`, here or in another process.
"""

import contextlib
import hashlib
import http.client
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.servers.s3 import S3Server

_HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "proxy-connection", "te", "transfer-encoding"})
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by RST


class Kind(StrEnum):
    """What is done to one request. The first five never reach the server."""

    SLOW_DOWN = "503 SlowDown"
    INTERNAL = "500 InternalError"
    CONFLICT = "409 ConditionalRequestConflict"
    NO_SUCH_FEATURE = "501 NotImplemented"
    RESET_BEFORE = "reset before it is passed on"
    LIE = "500 after it was done"
    RESET_AFTER = "reset after it was done"
    CUT = "answer broken off"
    SHORTEN = "answer cut, with the length of the rest"
    CORRUPT = "a byte of the answer changed"
    CORRUPT_SENT = "a byte of the request's body changed"
    STALL_BEFORE = "passed on late"
    STALL_AFTER = "answered late"
    UNCONDITIONAL = "passed on without If-None-Match"


_REFUSALS = {
    kind: (int(kind[:3]), kind[4:]) for kind in (Kind.SLOW_DOWN, Kind.INTERNAL, Kind.CONFLICT, Kind.NO_SUCH_FEATURE)
}


@dataclass(frozen=True, slots=True)
class Fault:
    """`stall_s` is how long a stall takes; `place` in [0, 1) says where a body is cut or changed."""

    kind: Kind
    stall_s: float = 1.0
    place: float = 0.5


@dataclass(frozen=True, slots=True)
class S3Request:
    """`key` is what follows the bucket, "" for a listing. `occurrence` counts equal methods and keys, from 0."""

    method: str
    bucket: str
    key: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    occurrence: int

    @property
    def conditional(self) -> bool:
        """Whether it is a put-if-absent."""
        return "if-none-match" in self.headers


Plan = Callable[[S3Request], Fault | None]


@dataclass(frozen=True, slots=True)
class Handled:
    """`fault` is what was really done: None also where a fault had nothing to spoil. `status` is the server's answer.

    `request` is as it was passed on, without its body.
    """

    request: S3Request
    fault: Fault | None
    status: int | None


@dataclass(frozen=True, slots=True)
class FaultyS3:
    """A running proxy and what it did so far, in the order in which requests ended."""

    endpoint_url: str
    log: list[Handled]

    @property
    def done(self) -> Counter[Kind]:
        """How often each kind of fault really happened."""
        return Counter(handled.fault.kind for handled in list(self.log) if handled.fault is not None)


def seeded(seed: int, rates: Mapping[Kind, float], *, stall_s: float = 1.0, in_a_row: int = 3) -> Plan:
    """Faults by chance, `rates` being the share of requests per kind (their sum at most 1).

    What happens to a request follows from the seed, its method, its key and its occurrence alone, whatever the order
    in which requests come. After `in_a_row` requests of the same method and key at most one is left alone. No byte of a
    listing is changed: it carries no digest, and nobody could tell.
    """

    def plan(request: S3Request) -> Fault | None:
        if request.occurrence % (in_a_row + 1) == in_a_row:
            return None
        name = f"{seed}\0{request.method}\0{request.key}\0{request.occurrence}"
        dice = hashlib.sha256(name.encode()).digest()
        chance, place = (int.from_bytes(dice[at : at + 6]) / 2**48 for at in (0, 6))
        for kind, rate in rates.items():
            if chance < rate:
                return None if kind is Kind.CORRUPT and request.key == "" else Fault(kind, stall_s, place)
            chance -= rate
        return None

    return plan


def first(count: int, kind: Kind, *, method: str | None = None, **options: float) -> Plan:
    """`count` times `kind` for each method and key, of `method` only if one is given; then nothing more."""

    def plan(request: S3Request) -> Fault | None:
        chosen = request.occurrence < count and method in (None, request.method)
        return Fault(kind, **options) if chosen else None

    return plan


@contextlib.contextmanager
def faulty_s3(server: S3Server, plan: Plan) -> Iterator[FaultyS3]:
    """A proxy in front of `server` that does to every request what `plan` says. `plan` is called by many threads."""
    proxy = _Server(server, plan)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield FaultyS3(f"http://127.0.0.1:{proxy.server_address[1]}", proxy.log)
    finally:
        proxy.shutdown()
        thread.join()
        proxy.hang_up()
        proxy.server_close()
    if proxy.defects:
        raise ExceptionGroup("the proxy or its plan failed", proxy.defects)


@dataclass(slots=True)
class _Answer:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    promised: str | None = None  # Content-Length


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False  # so that closing waits for the last answer

    def __init__(self, server: S3Server, plan: Plan) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(server.endpoint_url).netloc
        self.credentials = Credentials(server.access_key, server.secret_key)
        self.plan = plan
        self.log: list[Handled] = []
        self.defects: list[Exception] = []
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._seen: Counter[tuple[str, str, str]] = Counter()
        self._open: set[socket.socket] = set()

    def occurrence(self, method: str, bucket: str, key: str) -> int:
        with self._lock:
            self._seen[method, bucket, key] += 1
            return self._seen[method, bucket, key] - 1

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._lock:
            self._open.discard(request)
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == _RESET:
            self.close_request(request)  # a FIN first would make it a polite end
        else:
            super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client or a server that hung up is no failure of the proxy; anything else is a plan's or its own."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError | http.client.HTTPException):
            self.defects.append(error)

    def hang_up(self) -> None:
        self.ending.set()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # it then says 100-continue, for which boto3 waits a second
    disable_nagle_algorithm = True
    server: _Server

    def _handle(self) -> None:
        request = self._request()
        fault = self.server.plan(request)
        answer: _Answer | None = None
        if fault is not None and fault.kind in _REFUSALS:
            reply: _Answer | None = _failure(*_REFUSALS[fault.kind])
        elif fault is not None and fault.kind is Kind.RESET_BEFORE:
            reply = None
        else:
            request, fault = self._spoil_request(request, fault)
            answer = self._ask(request)
            reply, fault = self._spoil_answer(request, answer, fault)
        status = answer.status if answer is not None else None
        self.server.log.append(Handled(replace(request, body=b""), fault, status))
        if reply is None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close_connection = True
        else:
            self._reply(reply)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _handle

    def _request(self) -> S3Request:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        return S3Request(
            self.command, bucket, key, query, headers, body, self.server.occurrence(self.command, bucket, key)
        )

    def _spoil_request(self, request: S3Request, fault: Fault | None) -> tuple[S3Request, Fault | None]:
        match fault:
            case Fault(Kind.STALL_BEFORE):
                self.server.ending.wait(fault.stall_s)
            case Fault(Kind.UNCONDITIONAL):
                if not request.conditional:
                    return request, None
                return self._unconditional(request), fault
            case Fault(Kind.CORRUPT_SENT):
                if not request.body:
                    return request, None
                return replace(request, body=_corrupt(request.body, fault)), fault
        return request, fault

    def _unconditional(self, request: S3Request) -> S3Request:
        dropped = {"if-none-match", "authorization", *_HOP_BY_HOP}
        kept = {name: value for name, value in request.headers.items() if name not in dropped}
        url = f"http://{request.headers['host']}{self.path}"
        signed = AWSRequest(method=request.method, url=url, headers=kept, data=request.body)
        S3SigV4Auth(self.server.credentials, "s3", "us-east-1").add_auth(signed)
        return replace(request, headers={name.lower(): value for name, value in signed.headers.items()})

    def _ask(self, request: S3Request) -> _Answer:
        server = http.client.HTTPConnection(self.server.upstream, timeout=60)
        with contextlib.closing(server):
            server.putrequest(request.method, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name not in _HOP_BY_HOP:
                    server.putheader(name, value)
            server.endheaders(request.body or None)
            got = server.getresponse()
            body = got.read()
            headers = [pair for pair in got.getheaders() if pair[0].lower() not in {*_HOP_BY_HOP, "content-length"}]
            return _Answer(got.status, got.reason, headers, body, got.getheader("Content-Length"))

    def _spoil_answer(
        self, request: S3Request, answer: _Answer, fault: Fault | None
    ) -> tuple[_Answer | None, Fault | None]:
        match fault:
            case Fault(Kind.RESET_AFTER):
                return None, fault
            case Fault(Kind.LIE) if answer.status < 300:
                return _failure(500, "InternalError"), fault
            case Fault(Kind.STALL_AFTER):
                self.server.ending.wait(fault.stall_s)
            case Fault(Kind.CUT | Kind.SHORTEN | Kind.CORRUPT) if answer.body and request.method == "GET":
                return _spoil_body(answer, fault), fault
            case Fault(Kind.LIE | Kind.CUT | Kind.SHORTEN | Kind.CORRUPT):
                return answer, None
        return answer, fault

    def _reply(self, answer: _Answer) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers:
            self.send_header(name, value)
        promised = str(len(answer.body)) if answer.promised is None else answer.promised
        if answer.status not in {204, 304}:
            self.send_header("Content-Length", promised)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
            self.close_connection = self.close_connection or int(promised) != len(answer.body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        return


def _failure(status: int, code: str) -> _Answer:
    body = f"<Error><Code>{code}</Code><Message>by the faulty proxy</Message></Error>".encode()
    return _Answer(status, code, [("Content-Type", "application/xml")], body)


def _spoil_body(answer: _Answer, fault: Fault) -> _Answer:
    if fault.kind is Kind.CORRUPT:
        return replace(answer, body=_corrupt(answer.body, fault), promised=None)
    rest = answer.body[: int(fault.place * len(answer.body))]
    promised = str(len(answer.body)) if fault.kind is Kind.CUT else None
    return replace(answer, body=rest, promised=promised)


def _corrupt(body: bytes, fault: Fault) -> bytes:
    at = int(fault.place * len(body))
    return body[:at] + bytes([body[at] ^ 0x20]) + body[at + 1 :]
