"""A calibrator: fitted from outcomes, stored as JSON by the digest of its content, applied to rows."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from winnow_storage.errors import UsageError
from winnow_storage.ids import digest_value
from winnow_workers.confidence.curves import Curve, Form, Kind, Outcomes, clip, fit, forms, log_loss
from winnow_workers.confidence.drift import Sketch, sketch
from winnow_workers.confidence.features import Features, Floats, fields_of

LEAST_LABELS = 100
LEAST_OF_EACH = 10  # right ones, and wrong ones
FOLDS = 5


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Subject(_Record):
    """What a calibrator is for: predictions of one task by one model, with the parameters in `task_digest`."""

    task: str
    operator: str
    model: str
    task_digest: str


class FittedOn(_Record):
    """The draw: how many labels, how many of them found the prediction right, and where they are from."""

    labels: int
    right: int
    runs: tuple[str, ...]
    source: str  # labels | truth
    purposes: tuple[str, ...] = ()


class Calibrator(_Record):
    """Frozen; `log_losses` are the held-out ones of every form that was tried, `form` the best of them."""

    format: Literal[1] = 1
    subject: Subject
    kind: Kind
    form: str
    inputs: tuple[str, ...]
    numbers: tuple[float, ...]
    fitted_on: FittedOn
    log_losses: Mapping[str, float]
    sketch: Sketch

    @property
    def digest(self) -> str:
        """Of its content; its name in the store."""
        return digest_value(self.model_dump(mode="json"))

    @property
    def id(self) -> str:
        """What rows and routes say of it, such as "isotonic:3f2a9c01d4e5"."""
        return f"{self.kind}:{self.digest[:12]}"

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a task's struct that are needed to apply it."""
        return tuple(name for name in fields_of(self.subject.operator) if name != "top" or self.kind == "temperature")

    def p_ok(self, features: Features) -> Floats:
        """(n,), NaN where a feature is missing; never 0 or 1."""
        found = np.full(len(features.score), np.nan)
        usable = features.usable
        if usable.any():
            curve = Curve(Form(self.form, self.kind, self.inputs), self.numbers)
            found[usable] = clip(curve(features.take(usable)), self.fitted_on.labels)
        return found


def fit_calibrator(
    subject: Subject, features: Features, ok: Outcomes, *, population: Floats, fitted_on: FittedOn
) -> Calibrator:
    """The form with the least held-out log loss, fitted on all labels; of equals the simplest.

    `population` (m,): the scores of all predictions that the labels were drawn from, for the drift test. Labels are
    dealt into folds by a fixed shuffle, so the same labels in the same order give the same calibrator.

    Raises:
        UsageError: too few labels, or too few that are right or wrong; it says how many are needed.
    """
    usable = features.usable
    features, ok = features.take(usable), ok[usable]
    _check_enough(subject.task, ok)
    losses = {form.name: _held_out_loss(form, features, ok) for form in forms(features)}
    best = min(forms(features), key=lambda form: round(losses[form.name], 6))
    return Calibrator(
        subject=subject,
        kind=best.kind,
        form=best.name,
        inputs=best.inputs,
        numbers=fit(best, features, ok).numbers,
        fitted_on=fitted_on.model_copy(update={"labels": len(ok), "right": int(ok.sum())}),
        log_losses={name: round(loss, 6) for name, loss in losses.items()},
        sketch=sketch(population[np.isfinite(population)]),
    )


def _held_out_loss(form: Form, features: Features, ok: Outcomes) -> float:
    folds = np.random.default_rng(0).permutation(len(ok)) % FOLDS
    found = np.empty(len(ok))
    for fold in range(FOLDS):
        train, held = folds != fold, folds == fold
        curve = fit(form, features.take(train), ok[train])
        found[held] = clip(curve(features.take(held)), int(train.sum()))
    return log_loss(found, ok)


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
