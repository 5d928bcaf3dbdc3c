"""Where did a run's time go, and how near is it to a bare loop over the same images? Pure: from receipts and rates."""

from collections.abc import Mapping, Sequence
from typing import Any

LEAST_SHARDS = 3  # that must be left for a rate to be called steady


def steady_rate(committed: Sequence[tuple[float, int]], *, actors: int) -> float | None:
    """Items per second between start and end, from when each shard was committed (seconds) and its items, in order.

    Left out are as many shards at each end as there are actors: the first hold the start, among the last somebody has
    nothing to do any more. None where too few are left.
    """
    inner = committed[actors - 1 : len(committed) - actors]
    if len(inner) <= LEAST_SHARDS or inner[-1][0] <= inner[0][0]:
        return None
    return sum(items for _, items in inner[1:]) / (inner[-1][0] - inner[0][0])


def profiled(
    stage_seconds: Mapping[str, float], *, items_per_s: float | None, bare_items_per_s: float | None
) -> dict[str, Any]:
    """What the record, the terminal and the report say: stages by their time, the bottleneck, the ratio.

    `items_per_s` is the steady rate of all actors together, `bare_items_per_s` that of their bare loops.
    """
    total = sum(stage_seconds.values())
    stages = [
        {"stage": name, "seconds": round(seconds, 3), "share": round(seconds / total, 4) if total > 0 else 0.0}
        for name, seconds in sorted(stage_seconds.items(), key=lambda one: -one[1])
    ]
    ratio = items_per_s / bare_items_per_s if items_per_s and bare_items_per_s else None
    return {
        "stages": stages,
        "bottleneck": stages[0]["stage"] if stages else None,
        "items_per_s": _rounded(items_per_s),
        "bare_items_per_s": _rounded(bare_items_per_s),
        "ratio": _rounded(ratio),
    }


def profile_lines(record: Mapping[str, Any]) -> list[str]:
    """The record in words."""
    shares = ", ".join(f"{one['stage']} {one['share']:.0%}" for one in record["stages"])
    lines = [f"  where the actors' time went: {shares or 'nowhere'}"]
    if record["bottleneck"] is not None:
        lines.append(f"  bottleneck: {record['bottleneck']}")
    bare = record["bare_items_per_s"]
    if record["ratio"] is not None:
        lines.append(
            f"  steady: {record['items_per_s']:.1f} items/s, {record['ratio']:.2f} of a bare loop's {bare:.1f} "
            "(the same decoding and models in the same actors, of images in memory)"
        )
    elif bare is not None:
        lines.append(f"  a bare loop makes {bare:.1f} items/s; this run had too few shards for a steady rate")
    else:
        lines.append("  no bare loop could be timed: an actor ended or hung in it, or had no image for it")
    return lines


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
