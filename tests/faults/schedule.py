"""Which faults hit a run, in which order? Drawn from a seed; when each of them strikes is a matter of progress."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is done."""

    KILL_ACTOR = "kill an actor"
    KILL_ACTORS = "kill every actor"
    KILL_CHILD = "kill a child of an actor"
    KILL_DRIVER = "kill the driver"
    KILL_RAYLET = "kill the raylet"
    KILL_MACHINE = "kill everything"
    STOP_ACTOR = "stop an actor past its deadline"
    STOP_DRIVER = "stop the driver while another one goes on"
    REMOVE_LEDGER = "remove the ledger"
    LOCK_LEDGER = "lock the ledger"
    STOP_LEDGER = "stop the ledger's server"


class Moment(StrEnum):
    """What the actor that is looked at is in the middle of when it happens."""

    PREDICTING = "before the put"
    PUTTING = "during the put"
    PUT = "after the put"


KILLS = frozenset({Kind.KILL_ACTOR, Kind.KILL_ACTORS, Kind.KILL_DRIVER, Kind.KILL_RAYLET, Kind.KILL_MACHINE})
OF_LEDGERS = frozenset({Kind.REMOVE_LEDGER, Kind.LOCK_LEDGER, Kind.STOP_LEDGER})
OF_ACTORS = frozenset({Kind.KILL_ACTOR, Kind.KILL_ACTORS, Kind.KILL_CHILD})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    `commits` shards are committed since the last one before it is tried; an actor that predicts has predicted at
    least `items` images of a shard that is not committed; `choice` in [0, 1) picks one of the actors at that moment.
    """

    kind: Kind
    moment: Moment
    commits: int
    items: int
    choice: float


Card = tuple[Kind, Moment]

# Everything at least once, and 27 kills; those of actors are cheap, as another one goes on meanwhile.
SHORT: tuple[Card, ...] = (
    *[(Kind.KILL_ACTOR, Moment.PREDICTING)] * 7,
    *[(Kind.KILL_ACTOR, Moment.PUTTING)] * 5,
    *[(Kind.KILL_ACTOR, Moment.PUT)] * 5,
    *[(Kind.KILL_ACTORS, Moment.PREDICTING)] * 5,
    (Kind.KILL_DRIVER, Moment.PREDICTING),
    (Kind.KILL_DRIVER, Moment.PUTTING),
    (Kind.KILL_RAYLET, Moment.PREDICTING),
    (Kind.KILL_MACHINE, Moment.PUT),
    (Kind.STOP_ACTOR, Moment.PREDICTING),
    (Kind.STOP_DRIVER, Moment.PREDICTING),
    (Kind.REMOVE_LEDGER, Moment.PREDICTING),
    (Kind.LOCK_LEDGER, Moment.PREDICTING),
)

# What any fault may meet, for long campaigns.
LONG: tuple[Card, ...] = (
    *[(kind, moment) for kind in sorted(KILLS) for moment in Moment],
    *[(Kind.KILL_ACTOR, moment) for moment in Moment] * 3,
    *[(Kind.KILL_ACTORS, Moment.PREDICTING)] * 3,
    (Kind.STOP_ACTOR, Moment.PREDICTING),
    (Kind.STOP_ACTOR, Moment.PUTTING),
    (Kind.STOP_DRIVER, Moment.PREDICTING),
    (Kind.REMOVE_LEDGER, Moment.PREDICTING),
    (Kind.LOCK_LEDGER, Moment.PUT),
)

# For a ledger that is a server.
LEDGER_SERVER: tuple[Card, ...] = (
    (Kind.STOP_LEDGER, Moment.PREDICTING),
    (Kind.KILL_ACTOR, Moment.PREDICTING),
    (Kind.STOP_LEDGER, Moment.PUT),
)

# From outside, while items kill their processes too.
OUTSIDE: tuple[Card, ...] = (
    *[(Kind.KILL_ACTOR, Moment.PREDICTING)] * 4,
    (Kind.KILL_ACTOR, Moment.PUTTING),
    *[(Kind.KILL_CHILD, Moment.PREDICTING)] * 3,
)
DECKS = {"short": SHORT, "long": LONG, "ledger": LEDGER_SERVER}


def schedule(seed: int, deck: Sequence[Card], *, shard_items: int) -> Iterator[Fault]:
    """Every card of the deck, in an order that is the seed's."""
    dice = random.Random(seed)
    for kind, moment in dice.sample(list(deck), len(deck)):
        yield Fault(kind, moment, dice.randrange(0, 3), dice.randrange(1, shard_items), dice.random())
