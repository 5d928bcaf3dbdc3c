"""Did a prediction pass its task's acceptance test? From its struct and what is true, in the form of a label's value.

What right means is said once, in `winnow_workers.evaluation.acceptance`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from winnow_jobs.evaluation.measure_objects import said_boxes, said_masks
from winnow_workers.evaluation import acceptance, masks, texts
from winnow_workers.evaluation.boxes import Objects

Value = Mapping[str, Any]
WANTED = acceptance.Acceptance()
_PUT_OUT = acceptance.Acceptance(box_threshold=0.0)  # of boxes that are claims already


def is_accepted(operator: str, prediction: Value, true: Value) -> bool | None:
    """None where the truth gives no verdict: nothing was chosen.

    Raises:
        KeyError: no acceptance test is known for the operator.
    """
    return _TESTS[operator](prediction, true)


def _label(prediction: Value, true: Value) -> bool | None:
    if prediction.get("labels") is not None:
        several = true.get("labels")
        return None if several is None else acceptance.labels_ok(several, prediction["labels"])
    wanted = true.get("label")
    if wanted is None:
        return None
    if prediction.get("path") is not None:
        return acceptance.node_ok(true.get("path") or [wanted], prediction["label"])
    return acceptance.label_ok(wanted, prediction["label"])


def _text(prediction: Value, true: Value) -> bool | None:
    wanted = true.get("full_text")
    if wanted is None:
        return None
    return acceptance.text_ok(texts.text_errors(wanted, prediction["full_text"] or "", WANTED.normalisation))


def _verdict(prediction: Value, true: Value) -> bool | None:
    wanted = true.get("is_anomalous")
    return None if wanted is None else acceptance.verdict_ok(true=bool(wanted), predicted=prediction["is_anomalous"])


def _masks(prediction: Value, true: Value) -> bool | None:
    if true.get("masks") is None:
        return None
    return acceptance.masks_ok(masks.overlaps(said_masks(true), said_masks(prediction)), WANTED)


def _boxes(prediction: Value, true: Value) -> bool | None:
    if true.get("boxes") is None:
        return None
    put_out = np.flatnonzero(claimed_boxes(prediction))
    said = said_boxes(prediction)
    scores = None if said.scores is None else said.scores[put_out]
    claims = Objects(said.boxes[put_out], tuple(said.labels[at] for at in put_out), scores)
    return acceptance.boxes_ok(true_boxes(true), claims, _PUT_OUT)


def claimed_boxes(prediction: Value) -> list[bool]:
    """For each box of a prediction, whether it is put out: from the threshold of its task on."""
    return [one.get("is_output") is not False for one in prediction.get("boxes") or []]


def true_boxes(true: Value) -> Objects:
    """The boxes of a label's value."""
    boxes = true["boxes"]
    return Objects(
        np.array([one["box"] for one in boxes], np.float64).reshape(-1, 4),
        tuple(one["label"] for one in boxes),
        crowd=np.array([bool(one.get("crowd")) for one in boxes], np.bool_),
    )


_TESTS: Mapping[str, Callable[[Value, Value], bool | None]] = MappingProxyType(
    {"classify": _label, "detect": _boxes, "segment": _masks, "ocr": _text, "anomaly": _verdict}
)
TESTED = tuple(_TESTS)
