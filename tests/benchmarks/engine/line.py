"""One line of JSON for each point of a benchmark: what was measured, against what, whether it holds, where and when."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime


def say(point: str, ratios: Sequence[float], *, at_least: float | None = None, at_most: float | None = None,
        setup: str, **more: object) -> None:  # fmt: skip
    """Print a point whose figure is the median of `ratios`, one for each turn; none of them: it was not measured.

    Without a bound the point is reported only, and neither holds nor fails.
    """
    figure = statistics.median(ratios) if ratios else None
    target, holds = judge(figure, at_least=at_least, at_most=at_most)
    line = {
        "point": point,
        "figure": None if figure is None else round(figure, 3),
        "target": target,
        "holds": holds,
        "spread": [round(ratio, 3) for ratio in sorted(ratios)],
        **more,
        "setup": f"{machine()}, {setup}, {len(ratios)} turns, {today()}",
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def judge(figure: float | None, *, at_least: float | None, at_most: float | None) -> tuple[str, bool | None]:
    """A target as it is printed, and whether the figure is there; None where one of them is not."""
    if at_least is not None:
        return f">= {at_least}", None if figure is None else figure >= at_least
    if at_most is not None:
        return f"<= {at_most}", None if figure is None else figure <= at_most
    return "reported only", None


def machine() -> str:
    """What this runs on."""
    return f"{os.cpu_count()} cores, {platform.machine()}"


def today() -> str:
    """The date in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d}"
