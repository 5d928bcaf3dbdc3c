"""Where can a listing be cut, so that its parts are listed at the same time? At folders, else at letters of the keys.

A cut is a string: one part ends with it, the next one begins behind it. So parts follow each other in byte order,
whatever lies between the folders ("a-b" < "a/b" < "a0"), and objects beside folders need no care.
"""

from typing import Protocol

LOOKS = 10  # requests that a search among folders makes at most, and one among letters after it
ENOUGH = 24  # cuts that end it: more than threads, for parts are not equally long


class Level(Protocol):
    """What a search may ask the store, one request each."""

    def folders(self, prefix: str, after: str) -> tuple[tuple[str, ...], bool]:
        """The folders (ending in "/") in the folder `prefix` behind `after`, and whether there are more to see."""
        ...

    def next_key(self, after: str) -> str | None:
        """The first key behind `after`."""
        ...


def find_cuts(level: Level, *, after: str, end: str | None) -> list[str]:
    """Cuts strictly between `after`, a key, and `end` (None: no end), sorted, at most ENOUGH of them."""
    cuts: set[str] = set()
    waiting = _folders_above(after, end)
    for _ in range(LOOKS):
        if not waiting or len(cuts) >= ENOUGH:
            break
        folder = waiting.pop(0)
        found, more = level.folders(folder, after if after.startswith(folder) else "")
        if more:  # a folder for every few objects, perhaps: what one page shows of them would make tiny parts
            return _letter_cuts(level, after, end)
        within = [one for one in found if one > after and (end is None or one < end)]
        cuts.update(within)
        waiting += within
    return _thinned(sorted(cuts)) if cuts else _letter_cuts(level, after, end)


def _folders_above(after: str, end: str | None) -> list[str]:
    """The folders that hold `after`, from the top; without those of which all that follows lies behind `end`."""
    holding = ["", *(after[: at + 1] for at, letter in enumerate(after) if letter == "/")]
    if end is None:
        return holding
    shared = max((folder for folder in holding if end.startswith(folder)), key=len)
    return [folder for folder in holding if len(folder) >= len(shared)]


def _thinned(cuts: list[str]) -> list[str]:
    """Evenly chosen ones: every part costs about half a page of keys that the next part lists again."""
    count = min(len(cuts), ENOUGH)
    return [cuts[at * len(cuts) // count] for at in range(count)]


def _letter_cuts(level: Level, after: str, end: str | None) -> list[str]:
    """Cuts at the first letter in which the keys from `after` on differ: `img-01`, `img-02`, ..."""

    def behind(key: str, depth: int) -> str | None:
        """The first key before `end` that is greater than all that begin like `key` up to the letter at `depth`."""
        letter = ord(key[depth]) + 1
        if letter > 0x10FFFF:
            return None
        letter = 0xE000 if 0xD800 <= letter <= 0xDFFF else letter  # UTF-8 has no surrogates
        found = level.next_key(key[:depth] + chr(letter))
        return None if found is None or (end is not None and found >= end) else found

    shallow, deep = 0, len(after) - 1  # whatever differs at one depth differs at all that are deeper
    while shallow < deep:
        depth = (shallow + deep) // 2
        shallow, deep = (shallow, depth) if behind(after, depth) is not None else (depth + 1, deep)
    cuts: list[str] = []
    at = after
    for _ in range(LOOKS):
        found = behind(at, shallow)
        if found is None or found[:shallow] != after[:shallow]:
            break
        cuts.append(found[: shallow + 1])
        at = found
    return cuts
