"""What does a person read of an evaluation? One HTML page that stands alone, of the record that `--json` prints."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from winnow_jobs.evaluation import charts

ROWS_SHOWN = 200


def write_page(path: Path, record: Mapping[str, Any]) -> None:
    """Write it.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(render_page(record), encoding="utf-8")


def render_page(record: Mapping[str, Any]) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("winnow_jobs", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = _number
    template = environment.get_template("evaluate.html.j2")
    return template.render(record=record, charts=_charts(record["tables"], record["confidence"]), rows_shown=ROWS_SHOWN)


def _charts(tables: Mapping[str, Any], confidence: str) -> list[dict[str, Any]]:
    found = []
    if "reliability" in tables:
        chart = charts.reliability_chart(tables["reliability"])
        found.append({"title": "Reliability", "svg": chart,
                      "text": f"by {confidence}; a bar on the dashed line means what it claims"})  # fmt: skip
    points = tables["risk_coverage"]
    if points:
        highest = max(risk for _, risk in points)
        chart = charts.line_chart(points, x="coverage", y="share of errors", y_max=highest)
        found.append({"title": "Risk and coverage", "svg": chart,
                      "text": "share of errors among the most confident items"})  # fmt: skip
    if tables.get("roc"):
        chart = charts.line_chart(tables["roc"], x="false positive rate", y="true positive rate", diagonal=True)
        found.append({"title": "ROC", "svg": chart, "text": "true positive rate over all thresholds"})
    if "confusion" in tables and tables["confusion"]["labels"]:
        chart = charts.confusion_chart(tables["confusion"])
        found.append({"title": "Confusion", "svg": chart,
                      "text": "true labels down, predicted ones across; shares of a row"})  # fmt: skip
    return found


def _number(value: Any) -> str:
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
