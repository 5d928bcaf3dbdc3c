"""Predictions of every kind, as a task's struct is written in `routes/`, for an image of 400 x 300 px."""

import base64
import json
from typing import Any

import numpy as np

from winnow_annotation.kinds import masks
from winnow_annotation.tasks import PushItem
from winnow_storage.ids import dedupe_key
from winnow_workers.decode import DecodeLimits
from winnow_workers.fetch import Fetcher
from winnow_workers.rendition import to_browser_image

WIDTH, HEIGHT = 400, 300
MODEL = "0123456789abcdef" * 4
LABELS = {"kind": ["cat", "dog & cow"], "parts": ["coin", "rim"], "things": ["coin", "rim"]}
OPERATORS = {
    "kind": "classify",
    "parts": "segment",
    "text": "ocr",
    "defect": "anomaly",
    "things": "detect",
    "look": "embed",
}


def disc(cx: int, cy: int, radius: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    yy, xx = np.ogrid[:HEIGHT, :WIDTH]
    return np.asarray((xx - cx) ** 2 + (yy - cy) ** 2 < radius**2)


def _mask(label: str, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    return {"label": label, "area_px": int(mask.sum()), "score": 0.7, "rle": masks.to_coco(mask)}


def _heat() -> dict[str, Any]:
    """Hot (2 x the threshold) in the cell that covers x 100-150, y 100-150 of the image; cool elsewhere."""
    cells = np.full((6, 8), 40, np.uint8)
    cells[2, 2] = 200
    return {"height": 6, "width": 8, "scale": 0.01, "values": base64.b64encode(cells.tobytes()).decode()}


PREDICTIONS: dict[str, dict[str, Any]] = {
    "kind": {"label": "dog & cow", "top": [{"label": "dog & cow", "score": 0.6}, {"label": "cat", "score": 0.4}]},
    "parts": {"masks": [_mask("coin", disc(120, 100, 40)), _mask("rim", disc(300, 200, 25))]},
    "text": {
        "lines": [
            {"text": "second", "score": 0.5, "polygon": [201.5, 101, 301, 105, 300, 125, 201, 121], "order": 1},
            {"text": "first", "score": 0.9, "polygon": [20, 30, 120, 30, 120, 50.25, 20, 50.25], "order": 0},
        ],
        "full_text": "first\nsecond",
    },
    "things": {
        "boxes": [
            {"label": "coin", "box": [80.0, 60.25, 160.0, 140.0], "score": 0.9, "is_output": True},
            {"label": "rim", "box": [275.0, 175.0, 325.5, 225.0], "score": 0.6, "is_output": True},
            {"label": "coin", "box": [200.0, 100.0, 300.0, 120.0], "score": 0.2, "is_output": False},
        ],
        "cut": 0,
    },
    "defect": {
        "is_anomalous": True,
        "heat_map": _heat(),
        "regions": [{"box": [95.5, 100.0, 155.0, 150.25], "score": 2.0, "area_px": 2500}],
    },
    "look": {},  # the vector is not sent to people
}
COMMON = {"model": MODEL, "preproc": "p", "score": 0.6, "score_kind": "s", "p_ok": None, "calibrator": None}


def item(task: str, uri: str, **changes: Any) -> PushItem:
    """A review task about the image at `uri`."""
    fields: dict[str, Any] = {
        "job": "shelf-audit",
        "run_id": "0001",
        "task": task,
        "operator": OPERATORS[task],
        "item_id": f"item of {uri}",
        "version": "v1",
        "key": uri.rpartition("/")[2],
        "uri": uri,
        "width": WIDTH,
        "height": HEIGHT,
        "format": "jpeg",
        "route": "review",
        "reason": "score_low",
        "round": 0,
        "p_ok": None,
        "score": 0.6,
        "model": MODEL,
        "prediction": json.dumps({**COMMON, **PREDICTIONS[task], "error": None}),
    }
    fields |= changes
    fields["dedupe_key"] = dedupe_key(
        job=fields["job"],
        task=task,
        item=fields["item_id"],
        version=fields["version"],
        purpose=fields["route"],
        round_number=fields["round"],
    )
    return PushItem(**fields)


def neighbours(*uris: str) -> str:
    """What an embedding's review task says of the images at `uris`, the nearest first."""
    named = [
        {
            "item_id": f"item of {uri}",
            "key": uri.rpartition("/")[2],
            "uri": uri,
            "version": "v1",
            "score": 0.9 - at / 10,
        }
        for at, uri in enumerate(uris)
    ]
    return json.dumps(named)


def render(uri: str, version: str) -> bytes:
    """What jobs hands to push: a JPEG of an item that browsers do not open as it is."""
    return to_browser_image(uri, version, Fetcher(DecodeLimits()))
