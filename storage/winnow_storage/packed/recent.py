"""How do threads that read neighbours fetch what these share only once? The newest values, each made once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values up to `limit` in weight together, and always the newest one; whoever still uses an older one keeps it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[Key, tuple[Future[Value], int]] = OrderedDict()

    def get(self, key: Key, weight: int, make: Callable[[], Value]) -> Value:
        """The value of `key`: made by the first who asks, waited for by all others. Raises what `make` raises."""
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
                future = held[0]
            else:
                future = Future()
                self._held[key] = future, weight
                while len(self._held) > 1 and sum(each for _, each in self._held.values()) > self._limit:
                    self._held.popitem(last=False)
        if held is None:
            self._fill(key, future, make)
        return future.result()

    def _fill(self, key: Key, future: "Future[Value]", make: Callable[[], Value]) -> None:
        try:
            future.set_result(make())
        except BaseException as error:
            with self._lock:
                if (held := self._held.get(key)) is not None and held[0] is future:
                    del self._held[key]  # the next who asks tries again
            future.set_exception(error)
            raise
