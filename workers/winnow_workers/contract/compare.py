"""Do two predictions say the same? Labels, texts and counts exactly, numbers but for the last digits of float32."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from winnow_workers.operator import Prediction

TOLERANCE = 1e-5  # absolute up to 1, relative above
_SHOWN = 80  # characters of a value


def first_difference(ours: Sequence[Prediction], theirs: Sequence[Prediction]) -> str | None:
    """Where `ours` and `theirs` part first, as a sentence; None if they say the same."""
    if len(ours) != len(theirs):
        return f"{len(ours)} predictions, and {len(theirs)}"
    pairs = enumerate(zip(ours, theirs, strict=True))
    return _first(_difference(_parts(one), _parts(other), f"image {number}") for number, (one, other) in pairs)


def _parts(prediction: Prediction) -> dict[str, object]:
    common = {"score": prediction.score, "score_kind": prediction.score_kind}
    return {**common, "p_ok": prediction.p_ok, "calibrator": prediction.calibrator, **prediction.fields}


def _first(found: Iterable[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)


def _difference(one: object, other: object, where: str) -> str | None:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return f"{where} has {sorted(map(str, one))}, and {sorted(map(str, other))}"
        return _first(_difference(one[key], other[key], f"{where}, {key}") for key in one)
    if _is_numeric(one) and _is_numeric(other):
        return _between(np.asarray(one), np.asarray(other), where)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return _first(_difference(left, right, f"{where}[{place}]") for place, (left, right) in pairs)
    return None if one is other or one == other else f"{where}: {_short(one)}, and {_short(other)}"


def _is_numeric(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiub"
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(one, float | np.floating) for one in value)
    return isinstance(value, float | np.floating)


def _between(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic], where: str) -> str | None:
    if one.shape != other.shape:
        return f"{where} has the shape {one.shape}, and {other.shape}"
    left, right = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite values
        apart = np.abs(left - right) > TOLERANCE * np.maximum(1.0, np.abs(right))
    apart |= np.isnan(left) != np.isnan(right)
    if not apart.any():
        return None
    place = np.unravel_index(int(np.argmax(apart)), apart.shape)
    return f"{where}: {left[place]:.8g}, and {right[place]:.8g}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
