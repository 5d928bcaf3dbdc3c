"""A calibrator: fitted from outcomes, stored as JSON by the digest of its content, applied to rows."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from winnow_storage.errors import UsageError
from winnow_storage.ids import digest_value
from winnow_workers.confidence.curves import NEAR, Curve, Form, Kind, Outcomes, clip, fit, forms, log_loss
from winnow_workers.confidence.drift import Sketch, sketch
from winnow_workers.confidence.features import Features, Floats, fields_of, paths_of
from winnow_workers.confidence.folds import FOLDS, folds_of
from winnow_workers.confidence.neighbours import SAYS, Neighbours
from winnow_workers.confidence.part_curves import PartCurves, fit_part_curves

LEAST_LABELS = 100
LEAST_OF_EACH = 10  # right ones, and wrong ones
LEAST_SILENT = 20  # labels of predictions that say nothing
LEAST_EMPTY = 10  # labels of predictions that put nothing out
_EMPTY = Form("isotonic on log_rest_wrong", "isotonic", ("log_rest_wrong",))


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Subject(_Record):
    """What a calibrator is for: predictions of one task by one model, with the parameters in `task_digest`.

    `mask_iou`, of segment: from which mean IoU on its labels took masks for right; null in those of before it could be
    chosen: 0.5.
    """

    task: str
    operator: str
    model: str
    task_digest: str
    mask_iou: float | None = None


class FittedOn(_Record):
    """The draw: how many labels, how many of them found the prediction right, and where they are from."""

    labels: int
    right: int
    runs: tuple[str, ...]
    source: str  # labels | truth
    purposes: tuple[str, ...] = ()


class Empty(_Record):
    """Of predictions that put nothing out: an isotonic curve of how likely what was held back is wrong."""

    numbers: tuple[float, ...]
    labels: int
    right: int


class Calibrator(_Record):
    """Frozen; `log_losses` are the held-out ones of every form that was tried, `form` the best of them.

    `parts` says how likely each box, mask or line is right, `neighbours` what is known of similar items, for `form` to
    look at. `silent` is the p_ok of a page on which nothing was read: no score tells such pages apart, so it is the
    share of them that truly are without text. `empty`: that no box or mask is put out may be right more or less often
    than boxes are; where a curve of its own has the least log loss it is this, and `numbers` are of the others.
    `sketch` and `p_ok_sketch` are what the drift test compares with.
    """

    format: Literal[1] = 1
    subject: Subject
    kind: Kind
    form: str
    inputs: tuple[str, ...]
    numbers: tuple[float, ...]
    fitted_on: FittedOn
    log_losses: Mapping[str, float]
    sketch: Sketch
    parts: PartCurves | None = None
    neighbours: Neighbours | None = None
    silent: float | None = None
    empty: Empty | None = None
    p_ok_sketch: Sketch | None = None

    @property
    def content(self) -> dict[str, Any]:
        """As JSON. What is None is not in it, so that a calibrator from before such a field keeps its digest."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def digest(self) -> str:
        """Of its content; its name in the store."""
        return digest_value(self.content)

    @property
    def id(self) -> str:
        """What rows and routes say of it, such as "isotonic:3f2a9c01d4e5"."""
        return f"{self.kind}:{self.digest[:12]}"

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a task's struct that are needed to apply it."""
        operator = self.subject.operator
        names = [name for name in fields_of(operator) if name != "top" or self.kind == "temperature"]
        if self.neighbours is not None and operator in SAYS:
            names.append(SAYS[operator])
        return tuple(path for name in names for path in paths_of(operator, name))

    @property
    def sketches(self) -> dict[str, Sketch]:
        """What of a prediction is watched for drift, and how it was distributed."""
        return {"score": self.sketch} | ({} if self.p_ok_sketch is None else {"p_ok": self.p_ok_sketch})

    def watching(self, p_ok: Floats) -> "Calibrator":
        """The same, which also knows what its own p_ok are, (m,), of all predictions that the labels were drawn from.

        Unchanged where none has any.
        """
        as_written = p_ok.astype(np.float32).astype(np.float64)
        return self.model_copy(update={"p_ok_sketch": sketch(as_written)}) if np.isfinite(p_ok).any() else self

    def p_ok(self, features: Features) -> Floats:
        """(n,), NaN where a feature is missing; never 0 or 1. All NaN without what `neighbours` say."""
        found = np.full(len(features.score), np.nan)
        if self.neighbours is not None and not set(NEAR) <= set(features.columns):
            return found
        if self.parts is not None and features.parts is not None:
            features = features.summed(self.parts(features.parts))
        usable = features.usable
        if usable.any():
            form = Form(self.form, self.kind, self.inputs)
            found[usable] = _said(form, features.take(usable), self.numbers, self.fitted_on.labels, self.empty)
        if self.silent is not None and features.silent is not None:
            found[features.silent] = self.silent
        return found


def fit_calibrator(
    subject: Subject,
    features: Features,
    ok: Outcomes,
    *,
    population: Floats,
    fitted_on: FittedOn,
    neighbours: Neighbours | None = None,
) -> Calibrator:
    """The form with the least held-out log loss, fitted on all labels; of equals the simplest.

    Where it is known which boxes, masks or lines are right, curves for them come first; the form is then fitted on what
    curves say of parts that they did not see.

    `neighbours`: where the columns about them are from; they are kept if the best form looks at them.
    `population` (m,): the scores of all predictions that the labels were drawn from, for the drift test. Labels are
    dealt into folds by a fixed shuffle, so the same labels in the same order give the same calibrator.

    Raises:
        UsageError: too few labels, or too few that are right or wrong; it says how many are needed.
    """
    usable, silent = features.usable, _of_silent(features, ok)
    features, ok = features.take(usable), ok[usable]
    _check_enough(subject.task, ok)
    fitted = None if features.parts is None or features.parts.ok is None else fit_part_curves(features.parts)
    curves, held_out = fitted or (None, None)
    if held_out is not None:
        features = features.summed(held_out)
    losses = {form.name: _held_out_loss(form, features, ok) for form in forms(features)}
    best = min(forms(features), key=lambda form: round(losses[form.name], 6))
    numbers, empty = fit(best, features, ok).numbers, None
    apart = _empty(features)
    if apart.sum() >= LEAST_EMPTY and not apart.all():
        loss = _held_out_loss(best, features, ok, apart)
        if loss < losses[best.name]:
            numbers, empty = _fit_apart(best, features, ok, apart)
        losses[f"{best.name}, nothing put out apart"] = loss
    return Calibrator(
        subject=subject,
        kind=best.kind,
        form=best.name,
        inputs=best.inputs,
        numbers=numbers,
        fitted_on=fitted_on.model_copy(update={"labels": len(ok), "right": int(ok.sum())}),
        log_losses={name: round(loss, 6) for name, loss in losses.items()},
        sketch=sketch(population),
        parts=curves,
        neighbours=neighbours if set(NEAR) & set(best.inputs) else None,
        silent=silent,
        empty=empty,
    )


def _of_silent(features: Features, ok: Outcomes) -> float | None:
    """By Laplace's rule of succession; None where there are too few to tell."""
    silent = features.silent
    if silent is None or silent.sum() < LEAST_SILENT:
        return None
    return float((ok[silent].sum() + 1) / (silent.sum() + 2))


def _held_out_loss(form: Form, features: Features, ok: Outcomes, apart: Outcomes | None = None) -> float:
    """`apart` (n,): the predictions that have a curve of their own."""
    folds = folds_of(len(ok))
    found = np.empty(len(ok))
    for fold in range(FOLDS):
        train, held = folds != fold, folds == fold
        seen, labels, empty = features.take(train), int(train.sum()), None
        if apart is not None and apart[train].any() and not apart[train].all():
            numbers, empty = _fit_apart(form, seen, ok[train], apart[train])
        else:
            numbers = fit(form, seen, ok[train]).numbers
        found[held] = _said(form, features.take(held), numbers, labels, empty)
    return log_loss(found, ok)


def _empty(features: Features) -> Outcomes:
    """(n,): whether a prediction of boxes or masks puts none out; false of other predictions."""
    few = features.columns.get("few")
    return np.zeros(len(features.score), np.bool_) if few is None else np.asarray(few == 0, np.bool_)


def _fit_apart(form: Form, features: Features, ok: Outcomes, apart: Outcomes) -> tuple[tuple[float, ...], Empty]:
    numbers = fit(_EMPTY, features.take(apart), ok[apart]).numbers
    empty = Empty(numbers=numbers, labels=int(apart.sum()), right=int(ok[apart].sum()))
    return fit(form, features.take(~apart), ok[~apart]).numbers, empty


def _said(form: Form, features: Features, numbers: tuple[float, ...], labels: int, empty: Empty | None) -> Floats:
    """(n,), never 0 or 1; `labels` is what `numbers` were fitted on, with those of `empty`."""
    found = clip(Curve(form, numbers)(features), labels)
    if empty is not None and (apart := _empty(features)).any():
        found[apart] = clip(Curve(_EMPTY, empty.numbers)(features.take(apart)), empty.labels)
    return found


def _check_enough(task: str, ok: Outcomes) -> None:
    labels, right = len(ok), int(ok.sum())
    rarer = min(right, labels - right)
    if labels >= LEAST_LABELS and rarer >= LEAST_OF_EACH:
        return
    needed = max(LEAST_LABELS, -(-LEAST_OF_EACH * labels // rarer) if rarer else 0)
    about = f"about {needed} at this rate" if rarer else f"at least {max(needed, 2 * labels)}"
    raise UsageError(
        f"task {task}: {labels} labels of a uniform random draw, {right} of them with a right prediction; a calibrator "
        f"needs at least {LEAST_LABELS}, with {LEAST_OF_EACH} right and {LEAST_OF_EACH} wrong ones: {about}",
        hint="label more of a random draw, or give --truth FILE with the truth of a uniform random sample",
    )
