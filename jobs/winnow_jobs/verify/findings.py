"""What does a check say that found something? The object, what is wrong, the likely cause, what to do."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

EXAMPLES = 3  # names that a sentence gives before it only counts


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be in one object of the bucket."""

    key: str  # of the object, relative to the output root
    what: str
    cause: str
    next: str

    def record(self) -> dict[str, str]:
        """As `--json` says it."""
        return asdict(self)


@dataclass(slots=True)
class Wrong:
    """Counts what is wrong with rows, sentence by sentence, and keeps the first few names of each."""

    _counts: dict[str, int] = field(default_factory=dict)
    _names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, name: str) -> None:
        """One more row of which `what` is true."""
        self._counts[what] = self._counts.get(what, 0) + 1
        names = self._names.setdefault(what, [])
        if len(names) < EXAMPLES:
            names.append(name)

    def sentences(self) -> Iterator[str]:
        """`what: 12, such as 'a.jpg', 'b.jpg', 'c.jpg'`, in the order in which they were first met."""
        for what, count in self._counts.items():
            yield f"{what}: {count}, such as {named(self._names[what])}"


def named(names: Sequence[str]) -> str:
    """The first few names in quotes."""
    return ", ".join(repr(name) for name in names[:EXAMPLES])
