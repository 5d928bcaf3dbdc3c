"""How likely is a box, a mask or a line right? A curve for each class that has enough of them, one for the others.

Which form, and whether classes have curves of their own, is chosen by the log loss on predictions that were held out.
A class is rare if it has under LEAST_OF_CLASS labelled parts, or under LEAST_OF_EACH right or wrong ones: those share
the curve that is fitted on the parts of all classes.
"""

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

from winnow_workers.confidence.curves import Curve, Form, Kind, Outcomes, clip, fit, log_loss, part_forms
from winnow_workers.confidence.features import Features
from winnow_workers.confidence.folds import FOLDS, folds_of
from winnow_workers.confidence.parts import Floats, Ints, Parts

LEAST_PARTS = 20
LEAST_OF_CLASS = 50
LEAST_OF_EACH = 5


class PartCurves(BaseModel):
    """`pooled` and `by_class` are a curve's numbers; `log_losses` are held-out ones, in nats per part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    form: str
    inputs: tuple[str, ...]
    pooled: tuple[float, ...]
    by_class: Mapping[str, tuple[float, ...]]
    parts: int
    right: int
    log_losses: Mapping[str, float]

    def __call__(self, parts: Parts) -> Floats:
        """(p,) probabilities of being right; never 0 or 1, NaN where an input is missing."""
        form = Form(self.form, self.kind, self.inputs)
        features = _features(parts)
        found = Curve(form, self.pooled)(features)
        for name, numbers in self.by_class.items():
            own = parts.classes == name
            if own.any():
                found[own] = Curve(form, numbers)(features.take(own))
        return clip(found, self.parts)


def fit_part_curves(parts: Parts) -> tuple[PartCurves, Floats] | None:
    """The best curves, fitted on all parts; and the (p,) probabilities that curves say which did not see them.

    None where there are too few to fit anything. The folds are those of the predictions that the parts belong to.

    Raises:
        ValueError: it is not known which parts are right.
    """
    if parts.ok is None:
        raise ValueError("it is not known which parts are right")
    if len(parts) < LEAST_PARTS:
        return None
    folds = folds_of(parts.n)[parts.owners]
    held: dict[str, Floats] = {}
    losses: dict[str, float] = {}
    choices: dict[str, tuple[Form, bool]] = {}
    for form in part_forms(tuple(parts.columns)):
        for per_class in (False, True) if _large_classes(parts, parts.ok) else (False,):
            name = f"{form.name}, by class" if per_class else form.name
            held[name] = _held_out(parts, parts.ok, form, folds, per_class=per_class)
            losses[name] = round(log_loss(held[name], parts.ok), 6)
            choices[name] = (form, per_class)
    best = min(losses, key=lambda name: losses[name])
    form, per_class = choices[best]
    return _fitted(parts, parts.ok, form, per_class=per_class, losses=losses), held[best]


def _fitted(parts: Parts, ok: Outcomes, form: Form, *, per_class: bool, losses: Mapping[str, float]) -> PartCurves:
    features = _features(parts)
    classes = _large_classes(parts, ok) if per_class else []
    masks = {name: parts.classes == name for name in classes}
    return PartCurves(
        kind=form.kind,
        form=form.name,
        inputs=form.inputs,
        pooled=fit(form, features, ok).numbers,
        by_class={name: fit(form, features.take(own), ok[own]).numbers for name, own in masks.items()},
        parts=len(parts),
        right=int(ok.sum()),
        log_losses=losses,
    )


def _held_out(parts: Parts, ok: Outcomes, form: Form, folds: Ints, *, per_class: bool) -> Floats:
    found = np.full(len(ok), 0.5)
    for fold in range(FOLDS):
        train, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(train) and len(held):
            curves = _fitted(_some(parts, train), ok[train], form, per_class=per_class, losses={})
            found[held] = curves(_some(parts, held))
    return found


def _some(parts: Parts, places: Ints) -> Parts:
    columns = {name: column[places] for name, column in parts.columns.items()}
    return Parts(parts.n, parts.owners[places], parts.classes[places], parts.claimed[places], columns)


def _large_classes(parts: Parts, ok: Outcomes) -> list[str]:
    names, places = np.unique(parts.classes, return_inverse=True)
    counts = np.bincount(places, minlength=len(names))
    right = np.bincount(places, ok, minlength=len(names))
    rarer = np.minimum(right, counts - right)
    large = (counts >= LEAST_OF_CLASS) & (rarer >= LEAST_OF_EACH)
    return [str(name) for name in names[large]] if len(names) > 1 else []


def _features(parts: Parts) -> Features:
    return Features(parts.columns["score"], parts.columns)
