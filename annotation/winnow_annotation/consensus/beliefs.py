"""What does the model think of an item, as probabilities of answers? From a prediction that is calibrated."""

from collections.abc import Mapping
from typing import Any

BELIEVED = ("classify", "anomaly")  # operators of whose predictions a probability of each answer follows
_MOST = 0.999  # a model is never certain: people can always outvote it


def belief_of(operator: str, prediction: Mapping[str, Any], p_ok: float | None) -> Mapping[Any, float] | None:
    """Probabilities by answer, of 1 at most; None where nothing calibrated is known.

    The predicted answer has p_ok. What is left goes to the other labels of `top` as their scores stand to each other,
    but never more of it than they and all unnamed ones claim; the rest is for labels that are not named.
    """
    if p_ok is None:
        return None
    sure = min(_MOST, max(1.0 - _MOST, float(p_ok)))
    if operator == "anomaly" and prediction.get("is_anomalous") is not None:
        said = bool(prediction["is_anomalous"])
        return {said: sure, not said: 1.0 - sure}
    if operator == "classify" and prediction.get("label") is not None and prediction.get("path") is None:
        return _classes(prediction, sure)
    return None


def _classes(prediction: Mapping[str, Any], sure: float) -> Mapping[str, float]:
    label = prediction["label"]
    others = {one["label"]: float(one["score"]) for one in prediction.get("top") or [] if one["label"] != label}
    first = next((float(one["score"]) for one in prediction.get("top") or [] if one["label"] == label), sure)
    left = max(1.0 - first, sum(others.values()), 1e-9)
    return {label: sure} | {name: (1.0 - sure) * score / left for name, score in others.items()}
