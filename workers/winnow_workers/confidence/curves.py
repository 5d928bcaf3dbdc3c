"""From features to a probability: monotone maps, each fitted from outcomes, each a few numbers that can be stored.

`logistic`: a logistic regression whose weights are not negative, so that surer features never lower `p_ok`; on the
logarithms of a score and of its rest it is beta calibration (Kull et al., 2017), on one feature Platt's (1999).
`isotonic`: pool adjacent violators (Zadrozny and Elkan, 2002), straight between its knots. `temperature`: the top
probability after scaling the logits (Guo et al., 2017), with what is below the kept top-k taken as one class.
"""

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from winnow_workers.confidence.features import Features, Floats

Kind = Literal["logistic", "isotonic", "temperature"]
Outcomes = npt.NDArray[np.bool_]

NEAR = ("near_agree", "near_right", "near")  # columns of `neighbours`
_RIDGE = 1e-3  # keeps weights finite where the outcomes are separable
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Form:
    """A map that may be fitted: its kind, and which features it looks at."""

    name: str
    kind: Kind
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """A fitted map. `numbers`: logistic, a bias and a weight per input; isotonic, the knots' x then their y;
    temperature, that.
    """

    form: Form
    numbers: tuple[float, ...]

    def __call__(self, features: Features) -> Floats:
        """(n,) probabilities, not clipped."""
        numbers = np.array(self.numbers)
        if self.form.kind == "temperature":
            return _scaled(features, self.numbers[0])
        if self.form.kind == "isotonic":
            half = len(numbers) // 2
            found: Floats = np.interp(features.columns[self.form.inputs[0]], numbers[:half], numbers[half:])
            return found
        return _sigmoid(numbers[0] + _matrix(features, self.form) @ numbers[1:])


def forms(features: Features) -> tuple[Form, ...]:
    """What may be fitted on such features, the simplest first."""
    names = tuple(features.columns)
    single = tuple(name for name in ("score", "margin", "far", "log_all", "softmin", "weakest") if name in names)
    found = [Form(f"logistic on {name}", "logistic", (name,)) for name in single]
    if "log_score" in names:
        found.append(Form("beta on score", "logistic", ("log_score", "log_rest")))
    if "far" in names:
        found.append(Form("logistic on both sides", "logistic", ("far_above", "far_below")))
        sides = ("is_above", "far_above", "is_below", "far_below")
        found.append(Form("logistic on each side", "logistic", sides))
    if "log_claims" in names:
        found.append(Form("logistic on claims and rest", "logistic", ("log_claims", "log_rest_wrong")))
    found += [Form(f"isotonic on {name}", "isotonic", (name,)) for name in single]
    if features.tops is not None:
        found.append(Form("temperature", "temperature"))
    own = tuple(name for name in names if name not in NEAR)
    if features.tops is not None or "log_claims" in names:
        found.append(Form("logistic on all", "logistic", own))
    if own != names:
        found.append(Form("logistic on all and neighbours", "logistic", names))
    return tuple(found)


def part_forms(names: tuple[str, ...]) -> tuple[Form, ...]:
    """What may be fitted on the columns of a prediction's parts, the simplest first."""
    found = [
        Form("logistic on score", "logistic", ("score",)),
        Form("beta on score", "logistic", ("log_score", "log_rest")),
        Form("isotonic on score", "isotonic", ("score",)),
    ]
    if "log_joint" in names:
        found.append(Form("isotonic on joint", "isotonic", ("log_joint",)))
    if len(names) > len(("score", "log_score", "log_rest")):
        found.append(Form("logistic on all", "logistic", names))
    return tuple(found)


def fit(form: Form, features: Features, ok: Outcomes) -> Curve:
    """Fit by maximum likelihood (isotonic: least squares); the same input gives the same numbers."""
    if form.kind == "temperature":
        return Curve(form, (_fit_temperature(features, ok),))
    if form.kind == "isotonic":
        return Curve(form, _fit_isotonic(features.columns[form.inputs[0]], ok))
    return Curve(form, _fit_logistic(_matrix(features, form), ok))


def log_loss(probabilities: Floats, ok: Outcomes) -> float:
    """The mean of -ln of the probability of what happened, in nats."""
    happened = np.where(ok, probabilities, 1.0 - probabilities)
    return float(-np.log(np.clip(happened, _TINY, None)).mean())


def clip(probabilities: Floats, labels: int) -> Floats:
    """Away from 0 and 1: `labels` outcomes support no more certainty than 1 in `labels` + 2 (Laplace)."""
    edge = 1.0 / (labels + 2)
    return np.clip(probabilities, edge, 1.0 - edge)


def _matrix(features: Features, form: Form) -> Floats:
    return np.column_stack([features.columns[name] for name in form.inputs])


def _fit_logistic(inputs: Floats, ok: Outcomes) -> tuple[float, ...]:
    from scipy.optimize import minimize

    means, spreads = inputs.mean(axis=0), inputs.std(axis=0)
    spreads = np.where(spreads > 0, spreads, 1.0)
    scaled, signs = (inputs - means) / spreads, np.where(ok, 1.0, -1.0)

    def loss(numbers: Floats) -> tuple[float, Floats]:
        reach = signs * (numbers[0] + scaled @ numbers[1:])
        pull = -signs * _sigmoid(-reach) / len(signs)
        value = float(np.logaddexp(0.0, -reach).mean()) + _RIDGE / 2 * float(numbers[1:] @ numbers[1:]) / len(signs)
        slope = np.concatenate([[pull.sum()], scaled.T @ pull + _RIDGE * numbers[1:] / len(signs)])
        return value, slope

    bounds = [(None, None), *[(0.0, None)] * inputs.shape[1]]
    found = minimize(loss, np.zeros(1 + inputs.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds)
    weights = found.x[1:] / spreads
    return (float(found.x[0] - weights @ means), *map(float, weights))


def _fit_isotonic(column: Floats, ok: Outcomes) -> tuple[float, ...]:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(column, ok.astype(np.float64))
    at, found = fitted.X_thresholds_, fitted.y_thresholds_.copy()
    # a block of one outcome alone, at either end, is no surer than its own count supports (`clip` knows the whole's)
    right, wrong = found == 1.0, found == 0.0
    between = found[~right & ~wrong]
    if right.any():
        surest = 1.0 - 1.0 / ((column >= at[right].min()).sum() + 2)
        found[right] = max(surest, between.max(initial=0.5))
    if wrong.any():
        least = 1.0 / ((column <= at[wrong].max()).sum() + 2)
        found[wrong] = min(least, between.min(initial=0.5))
    return (*map(float, at), *map(float, found))


def _fit_temperature(features: Features, ok: Outcomes) -> float:
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return log_loss(_scaled(features, float(np.exp(log_temperature))), ok)

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def _scaled(features: Features, temperature: float) -> Floats:
    tops = cast("Floats", features.tops)
    powers = np.where(tops > 0, np.exp(np.log(np.clip(tops, 1e-30, None)) / temperature), 0.0)
    found: Floats = powers[:, 0] / np.clip(powers.sum(axis=1), 1e-300, None)
    return found


def _sigmoid(values: Floats) -> Floats:
    found: Floats = 0.5 * (1.0 + np.tanh(values / 2))
    return found
