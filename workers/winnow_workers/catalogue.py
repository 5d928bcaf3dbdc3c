"""Which operators are there? Name to class, listed by hand; nothing is registered by being imported.

An operator of a user's own package is named by its place, `mypackage.module:MyOperator`.
"""

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from winnow_storage.errors import SpecError
from winnow_workers.operator import Operator, TaskConfig
from winnow_workers.operators.anomaly import AnomalyOperator
from winnow_workers.operators.classify import ClassifyOperator, ClassifyParams
from winnow_workers.operators.detect import DetectOperator
from winnow_workers.operators.embed import EmbedOperator
from winnow_workers.operators.head import HeadOperator
from winnow_workers.operators.ocr import OcrOperator
from winnow_workers.operators.segment import SegmentOperator

OPERATORS: Mapping[str, type[Operator[Any]]] = MappingProxyType(
    {
        "anomaly": AnomalyOperator,
        "classify": ClassifyOperator,
        "detect": DetectOperator,
        "embed": EmbedOperator,
        "ocr": OcrOperator,
        "segment": SegmentOperator,
    }
)


def operator_named(name: str) -> type[Operator[Any]]:
    """The operator of that name, or at that place (`module:Class`).

    Raises:
        SpecError: there is none; names the nearest one.
    """
    if ":" in name:
        return _operator_at(name)
    if name in OPERATORS:
        return OPERATORS[name]
    near = difflib.get_close_matches(name, OPERATORS, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise SpecError(f"there is no operator {name!r}", hint=f"{meant}operators: {', '.join(OPERATORS)}")


def operator_of(task: TaskConfig, device: str) -> Operator[Any]:
    """The operator that performs a task, not open yet.

    Raises:
        SpecError: there is none.
    """
    kind = operator_named(task.operator)
    params = kind.params_type.model_validate(dict(task.params))
    if isinstance(params, ClassifyParams) and params.vectors is not None:
        return HeadOperator(params, task.model, device)
    return kind(params, task.model, device)


def _operator_at(place: str) -> type[Operator[Any]]:
    module, _, attribute = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(
            f"the operator {place!r} cannot be imported: {error}",
            hint="install its package here and on every node, or set PYTHONPATH for both",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Operator)):
        raise SpecError(f"{place!r} is no operator", hint="name a class that extends winnow_workers.operator.Operator")
    return found
