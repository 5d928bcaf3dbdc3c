"""How do curves and a confusion matrix look? Inline SVG, made of the record's own numbers; nothing is fetched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

SIDE, LEFT, BOTTOM, TOP, RIGHT = 260, 46, 40, 12, 18  # px of a square plot and its margins
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LABEL_CHARACTERS = 14
_SIDE_FOR_NUMBERS = 24
CURVE_CLASSES = ("curve", "curve second", "curve third", "curve fourth")  # as pages colour them
_RISK_TOPS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_FEW = 0.05  # of the coverage: the shares of errors of so few items jump, and would squeeze the rest of the curve


@dataclass(frozen=True, slots=True)
class Chosen:
    """The threshold of a promise on a curve: what it covers, the risk there, and its upper bound."""

    coverage: float
    risk: float
    bound: float


def line_chart(points: Sequence[Sequence[float]], *, x: str, y: str, y_max: float = 1.0, diagonal: bool = False) -> str:
    """(x, y) points, x in [0, 1] and y in [0, y_max], joined; over the diagonal where that is the reference."""
    top = y_max or 1.0
    path = " ".join(f"{_x(a):.1f},{_y(b / top):.1f}" for a, b in points)
    reference = f'<path d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}" class="ref"/>' if diagonal else ""
    line = f'<polyline points="{path}" class="curve"/>' if len(points) > 1 else ""
    return _frame(reference + line, x=x, y=y, y_max=top)


def risk_chart(
    curves: Sequence[Sequence[Sequence[float]]],
    *,
    target: float | None = None,
    chosen: Chosen | None = None,
    risk: str = "share of errors",
) -> str:
    """(coverage, risk) points of each curve, coloured in turn; what is promised at most, dashed. All in [0, 1].

    The scale ends above what more than the surest twentieth of the items shows.
    """
    shown = [value for points in curves for coverage, value in points if coverage >= _FEW]
    highest = max([*shown, 1.2 * (target or 0.0), 1.1 * chosen.bound if chosen is not None else 0.0])
    top = next((one for one in _RISK_TOPS if one >= highest), 1.0)
    parts = [] if target is None else [f'<path d="M{_x(0)} {_y(target / top)}H{_x(1)}" class="ref"/>']
    # the first one is drawn last, above the others
    for points, kind in reversed(list(zip(curves, CURVE_CLASSES, strict=False))):
        path = " ".join(f"{_x(a):.1f},{_y(min(b / top, 1.0)):.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" class="{kind}"/>')
    if chosen is not None:
        x, low, high = _x(chosen.coverage), _y(chosen.risk / top), _y(min(chosen.bound / top, 1.0))
        parts.append(
            f'<path d="M{x} {low}V{high}m-4 0h8" class="bound"/><circle cx="{x}" cy="{low}" r="4" class="chosen">'
            f"<title>{chosen.coverage:.1%} of the draws are accepted, {escape(risk)} {chosen.risk:.2%}, "
            f"upper bound {chosen.bound:.2%}</title></circle>"
        )
    return _frame("".join(parts), x="coverage: share that is accepted", y=risk, y_max=top, percent=True)


def reliability_chart(rows: Sequence[Sequence[Any]]) -> str:
    """A bar per bin that holds something: how many of its predictions are ok; on the diagonal, confidence is true."""
    most = max((row[2] for row in rows), default=1) or 1
    bars = "".join(
        f'<rect x="{_x(low):.1f}" y="{_y(share):.1f}" width="{_x(high) - _x(low) - 1:.1f}" '
        f'height="{max(_y(0) - _y(share), 1):.1f}" class="bar" opacity="{0.35 + 0.65 * count / most:.2f}">'
        f"<title>{low:.2f} to {high:.2f}: {count:,} predictions, mean confidence {mean:.3f}, "
        f"{share:.3f} ok</title></rect>"
        for low, high, count, mean, share in rows
        if count
    )
    reference = f'<path d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}" class="ref"/>'
    return _frame(bars + reference, x="confidence", y="share that is ok")


def confusion_chart(confusion: Mapping[str, Any]) -> str:
    """True labels down, predicted ones across, the last column all others; darker is a larger share of the row."""
    labels, counts = confusion["labels"], confusion["counts"]
    columns = [*labels, "other"]
    cell = max(16, min(44, 620 // max(1, len(columns))))
    left, top = 118, 96
    parts = []
    for row, (label, values) in enumerate(zip(labels, counts, strict=True)):
        middle = top + row * cell + cell / 2
        parts.append(f'<text x="{left - 6}" y="{middle + 4:.1f}" text-anchor="end">{_short(label)}</text>')
        total = sum(values) or 1
        for column, (said, count) in enumerate(zip(columns, values, strict=True)):
            title = f"{escape(label)} said to be {escape(said)}: {count:,}"
            corner = (left + column * cell, top + row * cell, cell)
            parts.append(
                _cell(corner, count, share=count / total, kind="hit" if column == row else "miss", title=title)
            )
    for column, label in enumerate(columns):
        x = left + column * cell + cell / 2
        parts.append(f'<text transform="translate({x + 4:.1f} {top - 6}) rotate(-50)">{_short(label)}</text>')
    width, height = left + len(columns) * cell + 70, top + len(labels) * cell + 8
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="Confusion matrix">{"".join(parts)}</svg>'
    )


def _cell(corner: tuple[int, int, int], count: int, *, share: float, kind: str, title: str) -> str:
    x, y, side = corner
    text = ""
    if count and side >= _SIDE_FOR_NUMBERS:
        ink = "#fff" if share > 0.5 else "#1c2430"
        place = f'x="{x + side / 2:.1f}" y="{y + side / 2 + 4:.1f}" text-anchor="middle"'
        text = f'<text {place} style="fill: {ink}">{count}</text>'
    return (
        f'<rect x="{x}" y="{y}" width="{side - 1}" height="{side - 1}" class="{kind}" '
        f'fill-opacity="{share:.3f}"><title>{title}</title></rect>{text}'
    )


def _frame(inside: str, *, x: str, y: str, y_max: float = 1.0, percent: bool = False) -> str:
    width, height = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
    ticks = "".join(
        f'<path d="M{_x(t)} {_y(0)}v4M{_x(0)} {_y(t)}h-4" class="axis"/>'
        f'<path d="M{_x(0)} {_y(t)}H{_x(1)}" class="grid"/>'
        f'<text x="{_x(t)}" y="{_y(0) + 17}" text-anchor="middle">{_tick(t, percent=percent)}</text>'
        f'<text x="{_x(0) - 7}" y="{_y(t) + 4}" text-anchor="end">{_tick(t * y_max, percent=percent)}</text>'
        for t in _TICKS
    )
    axes = f'<path d="M{_x(0)} {_y(1)}V{_y(0)}H{_x(1)}" class="axis"/>'
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(y)} over {escape(x)}">{ticks}{inside}{axes}'
        f'<text x="{_x(0.5)}" y="{height - 5}" text-anchor="middle">{escape(x)}</text></svg>'
    )


def _tick(value: float, *, percent: bool) -> str:
    return f"{100 * value:.3g} %" if percent else f"{value:.3g}"


def _x(share: float) -> float:
    return round(LEFT + share * SIDE, 1)


def _y(share: float) -> float:
    return round(TOP + (1 - share) * SIDE, 1)


def _short(label: str) -> str:
    text = label if len(label) <= _LABEL_CHARACTERS else label[: _LABEL_CHARACTERS - 1] + "…"
    return escape(text)
