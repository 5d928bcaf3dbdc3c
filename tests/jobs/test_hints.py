"""Tests of what takes webhooks: who may ask for a pull, and how little anybody else can do."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from winnow_jobs.hints import MOST_BODY_BYTES, Hints, hint_server
from winnow_storage.errors import UsageError

SECRET = "sixteen letters!"
Place = tuple[Hints, str]


@pytest.fixture
def place() -> Iterator[Place]:
    with hint_server(("127.0.0.1", 0), header="X-Secret", secret=SECRET) as (hints, port):
        yield hints, f"http://127.0.0.1:{port}/any/path"


def test_hints__the_right_secret_asks_for_one_pull_however_often_it_is_sent(place: Place) -> None:
    hints, url = place
    for _ in range(5):
        assert httpx.post(url, headers={"X-Secret": SECRET}, json={"action": "ANNOTATION_CREATED"}).status_code == 204
    assert hints.wait(0)
    assert not hints.wait(0)


@pytest.mark.parametrize("given", [None, "", "sixteen letters", "SIXTEEN LETTERS!", "sixteen letters!\xff", "x" * 9000])
def test_hints__any_other_secret_is_refused(place: Place, given: str | None) -> None:
    hints, url = place
    headers = {} if given is None else {"X-Secret": given.encode("latin-1")}
    assert httpx.post(url, headers=headers, content=b"{}").status_code == 401
    assert not hints.wait(0)
    assert (hints.taken, hints.refused) == (0, 1)


@pytest.mark.parametrize(
    ("length", "status"), [(f"{MOST_BODY_BYTES + 1}", 413), ("9" * 40, 413), ("-1", 411), ("", 411), ("one", 411)]
)
def test_hints__a_body_that_is_too_long_or_of_no_length_is_not_read(place: Place, length: str, status: int) -> None:
    hints, url = place
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=10) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nX-Secret: {SECRET}\r\nContent-Length: {length}\r\n\r\n".encode())
        assert connection.recv(100).startswith(f"HTTP/1.0 {status} ".encode())
    assert not hints.wait(0)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_hints__nothing_but_post_is_known(place: Place, method: str) -> None:
    hints, url = place
    assert httpx.request(method, url, headers={"X-Secret": SECRET}).status_code == 501
    assert not hints.wait(0)


def test_hints__those_who_only_hold_the_line_keep_nobody_out_for_long(place: Place) -> None:
    hints, url = place
    port = httpx.URL(url).port or 0
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(64)]
    try:
        idle[0].close()
        while True:
            try:
                if httpx.post(url, headers={"X-Secret": SECRET}, json={}).status_code == 204:
                    break
            except httpx.HTTPError:
                pass  # no place is free
    finally:
        for connection in idle:
            connection.close()
    assert hints.wait(0)


def test_hint_server__an_address_that_is_taken(place: Place) -> None:
    port = httpx.URL(place[1]).port or 0
    with (
        pytest.raises(UsageError, match="cannot listen at"),
        hint_server(("127.0.0.1", port), header="X-Secret", secret=SECRET),
    ):
        pass
