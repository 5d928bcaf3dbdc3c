"""Which operators' predictions can people answer, and how? The explicit list."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from winnow_annotation.kinds import anomaly, classify, detect, embed, ocr, segment
from winnow_annotation.kinds.geometry import Frame, Result
from winnow_storage.errors import SpecError


@dataclass(frozen=True, slots=True)
class Kind:
    """How one operator's predictions become Label Studio results, and answers become values in our frames."""

    results: Callable[[Mapping[str, Any], Frame | None], list[Result]]
    value: Callable[[Sequence[Result]], Mapping[str, Any]]


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "anomaly": Kind(anomaly.results, anomaly.value),
        "classify": Kind(classify.results, classify.value),
        "detect": Kind(detect.results, detect.value),
        "embed": Kind(embed.results, embed.value),
        "ocr": Kind(ocr.results, ocr.value),
        "segment": Kind(segment.results, segment.value),
    }
)


def kind_of(operator: str) -> Kind:
    """The kind of an operator.

    Raises:
        SpecError: there is no interface for it: it is an operator of somebody's own.
    """
    if operator not in KINDS:
        raise SpecError(
            f"predictions of the operator {operator!r} cannot be reviewed by people",
            hint=f"remove its policy from review.policies; reviewable are {', '.join(KINDS)}, and an operator of your "
            "own whose reviewed_as names one of them",
        )
    return KINDS[operator]
