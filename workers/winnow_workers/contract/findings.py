"""What does a check of an operator say? Whether it holds; if not what is wrong, why that matters, what to do."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that an operator does not keep, and what its author can do about it."""

    what: str
    next: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `ok` is null where it does not concern this operator, or could not be made."""

    check: str
    ok: bool | None
    why: str  # the pipeline counts on it
    problems: tuple[Problem, ...] = ()
    note: str | None = None

    def record(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)
