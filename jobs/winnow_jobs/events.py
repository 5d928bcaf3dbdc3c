"""What does a run tell while it works? Plain events that a renderer shows and a test reads."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence for a person."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is: items, shards and outcomes committed so far, of the whole run."""

    items: int
    items_total: int
    shards: int
    shards_total: int
    items_now: int  # committed since this driver started, for the rate
    outcomes: dict[str, int] = field(default_factory=dict)


Event = Note | Progress
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that shows nothing."""
