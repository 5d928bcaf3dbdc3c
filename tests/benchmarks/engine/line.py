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
    """Print a point whose figure is the median of `ratios`, one for each turn."""
    figure = statistics.median(ratios)
    target = f">= {at_least}" if at_least is not None else f"<= {at_most}"
    holds = figure >= at_least if at_least is not None else figure <= (at_most or 0.0)
    line = {
        "point": point,
        "figure": round(figure, 3),
        "target": target,
        "holds": holds,
        "spread": [round(ratio, 3) for ratio in sorted(ratios)],
        **more,
        "setup": f"{os.cpu_count()} cores, {platform.machine()}, {setup}, {len(ratios)} turns, "
        f"{datetime.now(UTC):%Y-%m-%d}",
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
