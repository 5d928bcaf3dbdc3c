"""Are the numbers as good as they must be? Limits such as accuracy=0.95, for a pipeline that stops where they break."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from winnow_storage.errors import UsageError


@dataclass(frozen=True, slots=True)
class Limit:
    """A measure, and the value that it must reach (`is_least`) or must not exceed."""

    measure: str
    value: float
    is_least: bool

    def holds(self, value: float) -> bool:
        """Whether `value` keeps it; NaN never does."""
        return value >= self.value if self.is_least else value <= self.value

    def record(self, measures: Mapping[str, float]) -> dict[str, Any]:
        """As JSON, with the value that there is."""
        limit = f"{'at least' if self.is_least else 'at most'} {self.value:g}"
        return {"measure": self.measure, "value": measures[self.measure], "limit": limit}


def read_limits(under: Iterable[str], over: Iterable[str]) -> list[Limit]:
    """Those of --fail-under and --fail-over.

    Raises:
        UsageError: one is not MEASURE=VALUE.
    """
    given = [("--fail-under", one) for one in under] + [("--fail-over", one) for one in over]
    found = []
    for option, text in given:
        name, separator, value = text.partition("=")
        try:
            number = float(value)
        except ValueError as error:
            raise UsageError(
                f"{option} {text}: {'no number' if separator else 'no ='}", hint=f"write {option} accuracy=0.95"
            ) from error
        found.append(Limit(name.strip(), number, option == "--fail-under"))
    return found


def broken(limits: Sequence[Limit], measures: Mapping[str, float]) -> list[Limit]:
    """Those that do not hold.

    Raises:
        UsageError: there is no such measure.
    """
    for one in limits:
        if one.measure not in measures:
            raise UsageError(
                f"there is no measure {one.measure!r} of this task", hint=f"measures: {', '.join(measures)}"
            )
    return [one for one in limits if not one.holds(measures[one.measure])]
