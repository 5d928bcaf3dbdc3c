"""When does Python look for garbage? Not while modules and models come, which stay.

Its collector looks through all objects again and again while they become more: a fifth of the time that torch and
torchvision take to import (half a million objects), and half of the time that a command takes to end.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

PYTHONS_OWN = gc.get_freeze_count()  # 3.12 begins with some


@contextmanager
def not_looked_for() -> Iterator[None]:
    """What is made in here stays: it is not looked through now, nor, the first time, until `look_through_all`.

    The first time only: what is garbage when it ends stays as well, and would heap up where models come and go.
    """
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() <= PYTHONS_OWN:
            gc.freeze()
        gc.enable()


def look_through_all() -> None:
    """Free what only holds itself, among all there is."""
    gc.unfreeze()
    gc.collect()
