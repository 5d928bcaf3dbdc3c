"""Did a prediction pass its task's acceptance test? From its struct and what is true, in the form of a label's value.

The tests themselves are those of `winnow_workers.evaluation.acceptance`, which `winnow evaluate` applies as well: the
share that it finds ok is what a calibrated `p_ok` promises.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from winnow_jobs.evaluation.measure_objects import said_masks
from winnow_workers.evaluation import acceptance, masks, texts
from winnow_workers.evaluation.acceptance import Acceptance

Value = Mapping[str, Any]
_DEFAULT = Acceptance()
MASK_IOU = _DEFAULT.mask_iou


def is_accepted(operator: str, prediction: Value, true: Value) -> bool | None:
    """None where the truth gives no verdict: nothing was chosen.

    Raises:
        KeyError: no acceptance test is known for the operator.
    """
    return _TESTS[operator](prediction, true)


def _label(prediction: Value, true: Value) -> bool | None:
    return None if true.get("label") is None else acceptance.label_ok(true["label"], prediction["label"])


def _text(prediction: Value, true: Value) -> bool | None:
    wanted = true.get("full_text")
    if wanted is None:
        return None
    return acceptance.text_ok(texts.text_errors(wanted, prediction["full_text"] or "", _DEFAULT.normalisation))


def _verdict(prediction: Value, true: Value) -> bool | None:
    wanted = true.get("is_anomalous")
    if wanted is None:
        return None
    return acceptance.verdict_ok(true=bool(wanted), predicted=bool(prediction["is_anomalous"]))


def _masks(prediction: Value, true: Value) -> bool | None:
    if true.get("masks") is None:
        return None
    return acceptance.masks_ok(masks.overlaps(said_masks(true), said_masks(prediction)), _DEFAULT)


_TESTS: Mapping[str, Callable[[Value, Value], bool | None]] = MappingProxyType(
    {"classify": _label, "segment": _masks, "ocr": _text, "anomaly": _verdict}
)
TESTED = tuple(_TESTS)
