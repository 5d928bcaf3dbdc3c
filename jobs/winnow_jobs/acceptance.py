"""Did a prediction pass its task's acceptance test? From its struct and what is true, in the form of a label's value.

| operator | right if |
|---|---|
| classify | the label is the true one |
| segment | the IoU, averaged over the classes of truth and prediction, is at least 0.5, or both are empty |
| ocr | the whole text is the true one, runs of white space taken as one space |
| anomaly | the verdict is the true one |
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

Value = Mapping[str, Any]
MASK_IOU = 0.5


def is_accepted(operator: str, prediction: Value, true: Value) -> bool | None:
    """None where the truth gives no verdict: nothing was chosen.

    Raises:
        KeyError: no acceptance test is known for the operator.
    """
    return _TESTS[operator](prediction, true)


def _label(prediction: Value, true: Value) -> bool | None:
    return None if true.get("label") is None else bool(prediction["label"] == true["label"])


def _text(prediction: Value, true: Value) -> bool | None:
    wanted = true.get("full_text")
    return None if wanted is None else _squeeze(prediction["full_text"]) == _squeeze(wanted)


def _verdict(prediction: Value, true: Value) -> bool | None:
    wanted = true.get("is_anomalous")
    return None if wanted is None else bool(prediction["is_anomalous"]) == bool(wanted)


def _masks(prediction: Value, true: Value) -> bool | None:
    from pycocotools import mask as coco

    if true.get("masks") is None:
        return None
    seen, wanted = ({one["label"]: _rle(one["rle"]) for one in side["masks"] or ()} for side in (prediction, true))
    ious = [
        float(coco.iou([seen[label]], [wanted[label]], [0])[0][0]) if label in seen and label in wanted else 0.0
        for label in sorted({*seen, *wanted})
    ]
    return not ious or float(np.mean(ious)) >= MASK_IOU


def _squeeze(text: str | None) -> str:
    return " ".join((text or "").split())


def _rle(rle: Value) -> dict[str, Any]:
    return {"size": [int(side) for side in rle["size"]], "counts": str(rle["counts"]).encode("ascii")}


_TESTS: Mapping[str, Callable[[Value, Value], bool | None]] = MappingProxyType(
    {"classify": _label, "segment": _masks, "ocr": _text, "anomaly": _verdict}
)
TESTED = tuple(_TESTS)
