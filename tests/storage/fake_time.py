"""How do tests retry without waiting? A clock that only the sleeps of retries move, and dice that always say a half."""

from dataclasses import dataclass, field

from winnow_storage.retrying import Retrying


@dataclass(slots=True)
class FakeTime:
    """`waits_s` are the sleeps that were asked for."""

    now_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)

    def sleep(self, wait_s: float) -> None:
        self.waits_s.append(wait_s)
        self.now_s += wait_s

    def retrying(self) -> Retrying:
        return Retrying(clock=lambda: self.now_s, sleep=self.sleep, jitter=lambda: 0.5)
