"""Which items does a random draw take? Seeded by what an item is, so that order and repetition change nothing."""

import hashlib


def position(seed: str, *names: str) -> float:
    """A number in [0, 1), uniform over `names` and fixed by `seed` and them."""
    digest = hashlib.sha256("\0".join([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def drawn(seed: str, *names: str, share: float) -> bool:
    """Whether the draw of `share` in [0, 1] takes what `names` name. A larger share takes all of a smaller one."""
    return position(seed, *names) < share
