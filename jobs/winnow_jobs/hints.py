"""How are hints from outside taken, whoever sends them? An HTTP server whose requests can do one thing: ask for a pull.

A request counts if its secret is right, compared in constant time. Nothing in it is believed or kept, so one that is
sent again does no more than the first. Bodies, connections and the time each takes are bounded.
"""

import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any

from winnow_storage.errors import UsageError

MOST_BODY_BYTES = 1 << 20  # of a webhook without payload: some tens; with one, as other tools set them, more
_MOST_DIGITS = 9
_MOST_AT_ONCE = 32
_PATIENCE_S = 5.0  # for a client that sends slowly


class Hints:
    """Whether somebody asked for a pull since the last one began."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.taken = 0
        self.refused = 0

    def ask(self) -> None:
        """Ask for one; as often as anybody likes."""
        self.taken += 1
        self._asked.set()

    def wait(self, at_most_s: float) -> bool:
        """Until somebody asks, or the time is over; whether somebody asked. The next call waits for another one."""
        asked = self._asked.wait(at_most_s)
        self._asked.clear()
        return asked


@contextmanager
def hint_server(address: tuple[str, int], *, header: str, secret: str) -> Iterator[tuple[Hints, int]]:
    """Take POST requests with the secret in a header, until the block ends; the hints, and the port.

    Raises:
        UsageError: the address cannot be taken.
    """
    hints = Hints()

    class Handler(_Handler):
        asked = hints
        secret_header = header
        secret_bytes = secret.encode()

    try:
        server = _Server(address, Handler)
    except OSError as error:
        place = f"{address[0]}:{address[1]}"
        raise UsageError(
            f"cannot listen at {place}: {error.strerror}", hint="give another --at ADDRESS:PORT"
        ) from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield hints, int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)  # the next poll finds what it had to say
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """A client that goes away says nothing."""


class _Handler(BaseHTTPRequestHandler):
    asked: Hints
    secret_header: str
    secret_bytes: bytes
    timeout = _PATIENCE_S

    def do_POST(self) -> None:
        """Ask for a pull, if it may."""
        given = self.headers.get(self.secret_header, "").encode()
        length = self.headers.get("Content-Length", "")
        if not hmac.compare_digest(given, self.secret_bytes):
            self.asked.refused += 1
            self._say(401)
        elif not length.isdecimal():
            self._say(411)
        elif len(length) > _MOST_DIGITS or int(length) > MOST_BODY_BYTES:
            self._say(413)
        else:
            self.rfile.read(int(length))  # and forgotten
            self.asked.ask()
            self._say(204)

    def _say(self, status: int) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Whoever knocks does not fill the screen."""
