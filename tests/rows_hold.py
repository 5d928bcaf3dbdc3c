"""What must be true of the values in a row, operator by operator: said again, by other means than the product's."""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco

Row = Mapping[str, Any]
SLACK_PX = 0.51  # boxes are float32, and some models put a border half a pixel outside
EPSILON = 1e-4


def wrong_in(row: Row, tasks: Mapping[str, str]) -> list[str]:
    """What is wrong in a row that is done; `tasks` is name -> operator."""
    return [f"{row['key']}: {name}: {what}" for name, kind in tasks.items() for what in _wrong(row, row[name], kind)]


def _wrong(row: Row, struct: Row | None, operator: str) -> Iterator[str]:
    if struct is None or struct["error"] is not None:
        yield f"no prediction: {struct}"
        return
    if not struct["model"] or not struct["preproc"]:
        yield "no model, or no preproc"
    if struct["score"] is not None and not (np.isfinite(struct["score"]) and struct["score_kind"]):
        yield f"score {struct['score']} of kind {struct['score_kind']}"
    if (struct["p_ok"] is None) != (struct["calibrator"] is None) or not 0 <= (struct["p_ok"] or 0) <= 1:
        yield f"p_ok {struct['p_ok']} by {struct['calibrator']}"
    yield from OPERATORS[operator](row, struct)


def _classify(_: Row, struct: Row) -> Iterator[str]:
    scores = [one["score"] for one in struct["top"]]
    if struct["top"][0]["label"] != struct["label"] or scores != sorted(scores, reverse=True):
        yield "its label is not the first of top"
    if sum(scores) > 1 + EPSILON or min(scores) < 0 or abs(struct["score"] - scores[0]) > EPSILON:
        yield "its scores are no probabilities"
    if len(scores) > 1 and abs(struct["margin"] - (scores[0] - scores[1])) > EPSILON:
        yield "its margin is another one"
    if struct["entropy"] < 0:
        yield "its entropy is negative"


def _detect(row: Row, struct: Row) -> Iterator[str]:
    scores = [one["score"] for one in struct["boxes"]]
    if scores != sorted(scores, reverse=True) or any(not 0 <= score <= 1 for score in scores):
        yield "its boxes are not sorted by probabilities"
    for one in struct["boxes"]:
        yield from _outside(row, one["box"])
        if not one["label"]:
            yield "a box without a label"
    if struct["cut"] < 0:
        yield "cut is negative"


def _segment(row: Row, struct: Row) -> Iterator[str]:
    for one in struct["masks"]:
        if one["rle"]["size"] != [row["height"], row["width"]]:
            yield f"a mask of {one['rle']['size']}"
            continue
        mask = coco.decode({"size": one["rle"]["size"], "counts": one["rle"]["counts"].encode()})
        if int(mask.sum()) != one["area_px"]:
            yield f"a mask of {mask.sum()} px says {one['area_px']}"
        rows, columns = np.nonzero(mask)
        around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else one["box"]
        if np.abs(np.subtract(one["box"], around)).max() > EPSILON:
            yield f"a box {one['box']} around {around}"


def _ocr(row: Row, struct: Row) -> Iterator[str]:
    lines = sorted(struct["lines"], key=lambda one: one["order"])
    if [one["order"] for one in lines] != list(range(len(lines))):
        yield "its lines have no order"
    if struct["full_text"] != "\n".join(one["text"] for one in lines if one["text"]):
        yield "full_text is not its lines"
    scores = [one["score"] for one in lines if one["text"]]
    if scores and abs(struct["score"] - min(scores)) > EPSILON:
        yield "its score is not that of the weakest line"
    if struct["cut"] < 0:
        yield "cut is negative"
    for one in lines:
        xs, ys = one["polygon"][0::2], one["polygon"][1::2]
        yield from _outside(row, [min(xs), min(ys), max(xs), max(ys)])


def _anomaly(row: Row, struct: Row) -> Iterator[str]:
    heat = struct["heat_map"]
    values = heat["values"] if isinstance(heat["values"], bytes) else base64.b64decode(heat["values"])
    if len(values) != heat["height"] * heat["width"] or heat["scale"] < 0:
        yield "a heat map of another size"
    if struct["score"] < 0 or (struct["p_value"] is not None and not 0 < struct["p_value"] <= 1):
        yield f"score {struct['score']}, p_value {struct['p_value']}"
    for one in struct["regions"]:
        yield from _outside(row, one["box"])


def _embed(_: Row, struct: Row) -> Iterator[str]:
    length = float(np.linalg.norm(np.asarray(struct["vector"], np.float64)))
    if abs(length - 1) > 2e-3:  # float16
        yield f"a vector of length {length}"


def _outside(row: Row, box: list[float]) -> Iterator[str]:
    x0, y0, x1, y1 = box
    inside = -SLACK_PX <= x0 <= x1 <= row["width"] + SLACK_PX and -SLACK_PX <= y0 <= y1 <= row["height"] + SLACK_PX
    if not inside:
        yield f"a box {box} in {row['width']} x {row['height']} px"


OPERATORS: Mapping[str, Callable[[Row, Row], Iterator[str]]] = {
    "anomaly": _anomaly,
    "classify": _classify,
    "detect": _detect,
    "embed": _embed,
    "ocr": _ocr,
    "segment": _segment,
}
