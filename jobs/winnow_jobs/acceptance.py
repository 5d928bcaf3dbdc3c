"""Did a prediction pass its task's acceptance test? From its struct and what is true, in the form of a label's value.

What right means is said once, in `winnow_workers.evaluation.acceptance`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from winnow_annotation.policies import Policy
from winnow_jobs.evaluation.measure_objects import said_boxes, said_masks
from winnow_workers.evaluation import acceptance, masks, texts
from winnow_workers.evaluation.boxes import Objects

Value = Mapping[str, Any]
WANTED = acceptance.Acceptance()


def acceptance_of(policy: Policy | None) -> acceptance.Acceptance:
    """What is asked of a task's predictions, by its policy where it has one."""
    asked = None if policy is None else policy.mask_iou
    return WANTED if asked is None else replace(WANTED, mask_iou=asked)


def other_tests(operator: str, wanted: acceptance.Acceptance, of_job: acceptance.Acceptance) -> list[str]:
    """What people must be told where predictions are judged by another test than the job's own."""
    return [
        f"judged with {_how(name, getattr(wanted, name), getattr(of_job, name))}: this job's calibrators, promises and "
        f"audits do not judge so, and what is ok here is not what p_ok is the probability of"
        + ("; mask_iou of the task's policy sets it for all of them" if name == "mask_iou" else "")
        for name in _ASKED.get(operator, ())
        if getattr(wanted, name) != getattr(of_job, name)
    ]


def _how(name: str, here: Any, there: Any) -> str:
    if not isinstance(here, float):
        return f"another {name}"
    return f"{name} {here:g}, not {'what the task puts out' if there is None else f'{there:g}'}"


def is_accepted(operator: str, prediction: Value, true: Value, wanted: acceptance.Acceptance = WANTED) -> bool | None:
    """None where the truth gives no verdict: nothing was chosen.

    Raises:
        KeyError: no acceptance test is known for the operator.
    """
    return _TESTS[operator](prediction, true, wanted)


def _label(prediction: Value, true: Value, _: acceptance.Acceptance) -> bool | None:
    if prediction.get("labels") is not None:
        several = true.get("labels")
        return None if several is None else acceptance.labels_ok(several, prediction["labels"])
    wanted = true.get("label")
    if wanted is None:
        return None
    if prediction.get("path") is not None:
        return acceptance.node_ok(true.get("path") or [wanted], prediction["label"])
    return acceptance.label_ok(wanted, prediction["label"])


def _text(prediction: Value, true: Value, wanted: acceptance.Acceptance) -> bool | None:
    text = true.get("full_text")
    if text is None:
        return None
    return acceptance.text_ok(texts.text_errors(text, prediction["full_text"] or "", wanted.normalisation))


def _verdict(prediction: Value, true: Value, _: acceptance.Acceptance) -> bool | None:
    known = true.get("is_anomalous")
    return None if known is None else acceptance.verdict_ok(true=bool(known), predicted=prediction["is_anomalous"])


def _masks(prediction: Value, true: Value, wanted: acceptance.Acceptance) -> bool | None:
    if true.get("masks") is None:
        return None
    found = masks.overlaps(said_masks(true), said_masks(prediction), ignored=true.get("ignored"))
    return acceptance.masks_ok(found, wanted)


def _boxes(prediction: Value, true: Value, wanted: acceptance.Acceptance) -> bool | None:
    if true.get("boxes") is None:
        return None
    return acceptance.boxes_ok(true_boxes(true), said_boxes(prediction), wanted)


def true_boxes(true: Value) -> Objects:
    """The boxes of a label's value."""
    boxes = true["boxes"]
    return Objects(
        np.array([one["box"] for one in boxes], np.float64).reshape(-1, 4),
        tuple(one["label"] for one in boxes),
        crowd=np.array([bool(one.get("crowd")) for one in boxes], np.bool_),
    )


_TESTS: Mapping[str, Callable[[Value, Value, acceptance.Acceptance], bool | None]] = MappingProxyType(
    {"classify": _label, "detect": _boxes, "segment": _masks, "ocr": _text, "anomaly": _verdict}
)
TESTED = tuple(_TESTS)
# what of an Acceptance an operator's test looks at
_ASKED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"detect": ("box_threshold", "box_iou"), "segment": ("mask_iou",), "ocr": ("normalisation",)}
)
