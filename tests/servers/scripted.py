"""How does a client meet a server that misbehaves? An HTTP server on loopback that answers as a test says."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass(frozen=True, slots=True)
class Request:
    """What the client asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is told. `promised_bytes` is the Content-Length, if it is to differ from the body's."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    promised_bytes: int | None = None


@contextlib.contextmanager
def scripted_server(answer: Callable[[Request], Answer]) -> Iterator[str]:
    """The URL of a server whose every answer is `answer(request)`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # it then says 100-continue, for which boto3 waits a second

        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            given = answer(Request(self.command, self.path, headers, body))
            self.send_response(given.status)
            length = len(given.body) if given.promised_bytes is None else given.promised_bytes
            for name, value in {"Content-Length": str(length), "Connection": "close", **given.headers}.items():
                self.send_header(name, value)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # whoever asked was killed meanwhile
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(given.body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do_PATCH = _reply

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def refusing_s3(monkeypatch: pytest.MonkeyPatch, status: int, code: str, said: str = "said so") -> Iterator[list[str]]:
    """The S3 of the AWS settings refuses every request so; the methods of those that came."""
    asked: list[str] = []

    def answer(request: Request) -> Answer:
        asked.append(request.method)
        body = f"<Error><Code>{code}</Code><Message>{said}</Message></Error>".encode()
        return Answer(status, b"" if request.method == "HEAD" else body)

    with scripted_server(answer) as url:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url,
        }.items():
            monkeypatch.setenv(name, value)
        yield asked
