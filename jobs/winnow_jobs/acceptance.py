"""Did a prediction pass its task's acceptance test? From its struct and what is true, in the form of a label's value.

What right means is said once, in `winnow_workers.evaluation.acceptance`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from winnow_jobs.evaluation.measure_objects import said_masks
from winnow_workers.evaluation import acceptance, masks, texts

Value = Mapping[str, Any]
WANTED = acceptance.Acceptance()


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


_TESTS: Mapping[str, Callable[[Value, Value], bool | None]] = MappingProxyType(
    {"classify": _label, "segment": _masks, "ocr": _text, "anomaly": _verdict}
)
TESTED = tuple(_TESTS)
