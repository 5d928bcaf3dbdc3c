"""How does Label Studio look through a bad gateway? Slow, silent after it did what it was asked, or late to do it."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.servers.scripted import Answer, Request, scripted_server

_PASSED_ON = ("authorization", "content-type", "x-winnow-secret")
_LOG_IN = "/api/token/"  # who cannot log in does nothing that could go wrong
_WRITES = ("POST", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Weather:
    """How often each happens, of all writes but log-ins (or, `slow`, of all requests; `dropped`, of all webhooks)."""

    lost: float = 0.3  # the server does it, and the client is told 502
    late: float = 0.1  # the client is told 502 at once, and the server does it up to `late_s` later
    slow: float = 0.1
    dropped: float = 0.5
    late_s: float = 2.0


@dataclass(slots=True)
class Gateway:
    """A gateway to `target`, and a relay of webhooks to `listener`; both URLs may change while it runs."""

    target: str
    listener: str
    dice: random.Random
    weather: Weather = field(default_factory=Weather)
    done: Counter[str] = field(default_factory=Counter)
    on_the_way: list[threading.Thread] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Answer:
        """For the server's own clients."""
        with self.lock:
            kind, slow, wait = self.dice.random(), self.dice.random() < self.weather.slow, self.dice.random()
        if slow:
            self.done["slow"] += 1
            time.sleep(wait)
        is_hit = request.method in _WRITES and not request.path.startswith(_LOG_IN)
        weather = self.weather if is_hit else Weather(lost=0, late=0)
        if kind < weather.late:
            self.done["late"] += 1
            thread = threading.Thread(target=self._later, args=(request, wait * weather.late_s))
            self.on_the_way.append(thread)
            thread.start()
            return Answer(502, b"<html>bad gateway</html>")
        answer = pass_on(self.target, request)
        if kind < weather.late + weather.lost and answer.status < 500:
            self.done["lost"] += 1
            return Answer(502, b"<html>bad gateway</html>")
        return answer

    def hook(self, request: Request) -> Answer:
        """For the server's webhooks."""
        with self.lock:
            dropped = self.dice.random() < self.weather.dropped
        self.done["hooks dropped" if dropped else "hooks"] += 1
        return Answer(204) if dropped else pass_on(self.listener, request, timeout_s=1)

    def settle(self) -> None:
        """Wait until nothing is on its way any more."""
        while self.on_the_way:
            self.on_the_way.pop().join()

    def _later(self, request: Request, wait_s: float) -> None:
        time.sleep(wait_s)
        pass_on(self.target, request)


@contextmanager
def gateway_of(gateway: Gateway) -> Iterator[tuple[str, str]]:
    """The URLs for clients and for webhooks."""
    with scripted_server(gateway.answer) as url, scripted_server(gateway.hook) as hook:
        yield url, hook
        gateway.settle()


def pass_on(url: str, request: Request, *, timeout_s: float = 120) -> Answer:
    """What the server says to a request; 502 where it says nothing."""
    headers = {name: value for name, value in request.headers.items() if name in _PASSED_ON}
    try:
        answer = httpx.request(
            request.method, f"{url}{request.path}", content=request.body, headers=headers, timeout=timeout_s
        )
    except httpx.HTTPError:
        return Answer(502, b"<html>bad gateway</html>")
    kept = {"Content-Type": answer.headers.get("content-type", "text/plain")}
    return Answer(answer.status_code, answer.content, kept)
