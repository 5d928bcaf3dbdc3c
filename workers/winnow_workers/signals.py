"""What may end an item before its tasks run? The signals that become an outcome; every other exception is a defect.

NeedsCare             the shard cannot be worked through in company; about no item yet

ItemSignal
├── Unreadable     its bytes are no image that a decoder takes
├── Missing        the store says that it is not there
├── Rejected       it is over a limit
│   └── OutOfMemory    decoding it takes more memory than there is
└── Unavailable    the store could not deliver it now
"""

from typing import ClassVar

from winnow_storage.schemas import Outcome

REPLACED = "the file that holds it was replaced since it was listed; the next run takes it again"


class ItemSignal(Exception):
    """An item ends here, with `outcome` and a `reason` that a person can act on."""

    outcome: ClassVar[Outcome]

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unreadable(ItemSignal):
    """The bytes are no image that a decoder takes."""

    outcome = Outcome.UNREADABLE


class Missing(ItemSignal):
    """The store says that the item is not there."""

    outcome = Outcome.MISSING


class Rejected(ItemSignal):
    """The item is over a limit."""

    outcome = Outcome.REJECTED


class OutOfMemory(Rejected):
    """Decoding the item takes more memory than there is; about the item only if nothing stands beside it."""


class Unavailable(ItemSignal):
    """The store could not deliver the item within its retry budget; not final."""

    outcome = Outcome.UNAVAILABLE


class NeedsCare(Exception):
    """The shard must be worked through item by item: in company nobody can tell which image is too much."""
