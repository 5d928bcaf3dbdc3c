"""How does a single image, or a text, become a vector that can be compared with a task's rows? By that task."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from winnow_storage.errors import UsageError
from winnow_workers.catalogue import operator_of
from winnow_workers.decode import DecodeLimits, DecodeSettings, decode
from winnow_workers.limits import check_bytes
from winnow_workers.operator import VECTOR_FIELD, Operator, TaskConfig, View

Doubles = npt.NDArray[np.float64]


def embed_image(
    config: TaskConfig, read: Callable[[], bytes], limits: DecodeLimits, settings: DecodeSettings
) -> Doubles:
    """The vector (width,) of one image, whose bytes `read` gives, on the CPU.

    Raises:
        ItemSignal: it cannot be decoded, or is over a limit.
        ModelError: the task's model cannot be opened.
        UsageError: the operator makes no vectors.
    """
    data = read()
    check_bytes(len(data), limits)
    operator = _opened(config)
    try:
        decoded = decode(data, needed_side_px=operator.needed_side_px, limits=limits, settings=settings)
        (prediction,) = operator.run([View(decoded.pixels, decoded.width_px, decoded.height_px)])
    finally:
        operator.close()
    if VECTOR_FIELD not in prediction.fields:
        raise UsageError(f"the operator {config.operator!r} makes no vectors", hint="name a task of embed: --task")
    return np.asarray(prediction.fields[VECTOR_FIELD], dtype=np.float64)


def embed_text(config: TaskConfig, text: str) -> Doubles:
    """The vector (width,) of a text, by the text tower of the pair that embedded the images.

    Raises:
        UsageError: the task's model is no pair or not pooled by its own way, or the text is too long.
        ModelError: the pair cannot be opened, or has no tokenizer.
    """
    pooling = config.params.get("pooling", "model")
    if pooling != "model":
        raise UsageError(
            f"only the vectors of pooling: model share a space with texts, these are of {pooling}",
            hint="leave pooling out of the task, then: winnow run SPEC",
        )
    from winnow_workers.models.pair_text import text_vector

    return text_vector(config.model, text)


def _opened(config: TaskConfig) -> Operator[Any]:
    operator = operator_of(config, "cpu")
    operator.open()
    return operator
