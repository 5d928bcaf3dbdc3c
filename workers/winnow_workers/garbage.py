"""When does Python look for garbage? Not while modules and models come, which stay.

Its collector looks through all objects again and again while they become more: a fifth of the time that torch and
torchvision take to import (half a million objects), and half of the time that a command takes to end.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def not_looked_for() -> Iterator[None]:
    """What is made in here stays: it is not looked through, neither now nor later, until `look_through_all`."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def look_through_all() -> None:
    """Free what only holds itself, among all there is."""
    gc.unfreeze()
    gc.collect()
