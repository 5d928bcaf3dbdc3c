"""Do a few answers of unequal people and a mediocre model make nearly every label right? And are wrong labels found?

scikit-learn's handwritten digits. Five simulated people are right with .95, .9, .8, .7 and .6, else say any other
digit; which of them answers an item next is drawn. The model is a logistic regression of too few labels, right on at
most 90 %, its probabilities scaled by a temperature that other items give. Everything between the answers and the
decision whom to ask next is the product's: labels as a pull writes them, `winnow consensus` after every round, rows in
the bucket. A turn is a seed.

    python -m tests.benchmarks.annotation.consensus [--seeds 5] [--items 1437]
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.benchmarks.engine.line import say
from tests.jobs.consensus.crowd_job import CrowdJob, Floats
from winnow_annotation.consensus.choices import consensus_of_choices
from winnow_annotation.consensus.decision import State
from winnow_annotation.consensus.opinions import Method, Opinion
from winnow_jobs.consensus.asked import asked_items

PEOPLE = {"ann": 0.95, "bob": 0.9, "cat": 0.8, "dan": 0.7, "eve": 0.6}
CLASSES = 10
CALIBRATING = 300
MODEL_AT_MOST = 0.9

Digits = np.ndarray[Any, np.dtype[np.int64]]


def main() -> None:
    """Print a line for each point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--items", type=int, default=1437)
    given = parser.parse_args()
    many = [voted(seed, given.items) for seed in range(given.seeds)]
    again = [looked_again(seed, given.items) for seed in range(given.seeds)]
    people = "sklearn digits, 5 simulated people (.95 .9 .8 .7 .6)"
    errors = "sklearn digits, one label an item, 5 % of them replaced by another digit"
    for found, part, data in ((many, _VOTED, people), (again, _LOOKED, errors)):
        for name, (point, bounds) in part.items():
            setup = f"{data}, {given.items} items, seeds 0 to {given.seeds - 1}"
            say(point, [one[name] for one in found], setup=setup, **bounds)


def voted(seed: int, items: int) -> dict[str, float]:
    """A job whose items are answered until nobody else is asked."""
    rng = np.random.default_rng(seed)
    _, truth, beliefs = model(seed, items)
    says = _says(truth, rng)
    names, turn = list(PEOPLE), np.array([rng.permutation(len(PEOPLE)) for _ in truth])
    said = [(place, names[turn[place, 0]], str(says[turn[place, 0], place])) for place in range(len(truth))]
    with tempfile.TemporaryDirectory() as folder:
        job = CrowdJob(Path(folder), beliefs, overlap=1, max_overlap=len(PEOPLE))
        for _ in PEOPLE:
            job.answer(said)
            job.settle()
            rows = job.standing()
            asking = [place for place, row in sorted(rows.items()) if row.state == State.ASKING]
            if not asking:
                break
            people = [(place, turn[place, rows[place].votes]) for place in asking]
            said = [(place, names[who], str(says[who, place])) for place, who in people]
    right = [json.loads(rows[place].answer)["label"] == str(true) for place, true in enumerate(truth.tolist())]
    return {
        "model": float((beliefs.argmax(axis=1) == truth).mean()),
        "majority": _majority_of_three(truth, says, turn),
        "consensus": float(np.mean(right)),
        "votes": float(np.mean([row.votes for row in rows.values()])),
        "least": float(min(row.votes for row in rows.values())) if len(rows) == len(truth) else 0.0,
        "disputed": float(np.mean([row.state in (State.DISPUTED, State.UNSURE) for row in rows.values()])),
    }


def looked_again(seed: int, items: int) -> dict[str, float]:
    """A job with one label an item, of which 5 % are wrong: who is asked to look again, and what becomes of it."""
    rng = np.random.default_rng(1000 + seed)
    pixels, truth, beliefs = model(seed, items)
    wrong = rng.permutation(len(truth))[: round(0.05 * len(truth))]
    labels = truth.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, CLASSES, len(wrong))) % CLASSES
    with tempfile.TemporaryDirectory() as folder:
        look = {"budget": len(truth) // 10}
        method = {"method": "dawid_skene"}  # the vectors are to tell, not the model
        job = CrowdJob(Path(folder), beliefs, pixels, second_look=look, consensus=method)
        job.answer([(place, "one", str(label)) for place, label in enumerate(labels.tolist())])
        job.settle()
        again = sorted({int(item.key[:5]) for item in asked_items(job.runs.store)})
        for person in ("two", "three"):  # of two who differ a third decides
            job.answer([(place, person, str(truth[place])) for place in again], purpose="second_look")
        job.settle()
        rows = job.standing()
    after = [json.loads(rows[place].answer)["label"] == str(true) for place, true in enumerate(truth.tolist())]
    return {
        "found": len(set(again) & set(wrong.tolist())) / len(wrong),
        "looked": len(again) / len(truth),
        "right_before": float((labels == truth).mean()),
        "right_after": float(np.mean(after)),
    }


def model(seed: int, items: int) -> tuple[Floats, Digits, Floats]:
    """(pixels (n, 64), digits (n,), calibrated probabilities (n, 10)) of items that taught the model nothing."""
    pixels, digits = load_digits(return_X_y=True)
    pixels, digits = pixels / 16.0, digits.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(digits))
    calibrating, held = order[-CALIBRATING:], order[60 : len(order) - CALIBRATING][:items]
    for taught in (60, 50, 40, 30):
        head = LogisticRegression(C=10, max_iter=500).fit(pixels[order[:taught]], digits[order[:taught]])
        if len(head.classes_) == CLASSES and head.score(pixels[held], digits[held]) <= MODEL_AT_MOST:
            break
    temperature = _temperature(head.decision_function(pixels[calibrating]), digits[calibrating])
    return pixels[held], digits[held], _softmax(head.decision_function(pixels[held]) / temperature)


def _temperature(logits: Floats, digits: Digits) -> float:
    """Guo et al., On calibration of modern neural networks, ICML 2017."""

    def loss(temperature: float) -> float:
        right = _softmax(logits / temperature)[np.arange(len(digits)), digits]
        return -float(np.log(np.maximum(right, 1e-12)).mean())

    return min(np.geomspace(0.1, 10, 80).tolist(), key=loss)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)


def _says(truth: Digits, rng: np.random.Generator) -> Digits:
    wrong = (truth + rng.integers(1, CLASSES, (len(PEOPLE), len(truth)))) % CLASSES
    right = rng.uniform(size=wrong.shape) < np.array(list(PEOPLE.values()))[:, None]
    return np.where(right, truth, wrong)


def _majority_of_three(truth: Digits, says: Digits, turn: Digits) -> float:
    opinions = [
        Opinion(f"{place:05d}", str(who), {"label": str(says[who, place])})
        for place in range(len(truth))
        for who in turn[place, :3]
    ]
    found = consensus_of_choices(opinions, "label", method=Method.MAJORITY).answers
    return float(np.mean([found[f"{i:05d}"].value["label"] == str(true) for i, true in enumerate(truth.tolist())]))


_VOTED: dict[str, tuple[str, dict[str, Any]]] = {
    "model": ("people: the model alone is right", {"at_most": MODEL_AT_MOST}),
    "majority": ("people: majority of three is right", {}),
    "consensus": ("people: the consensus is right", {"at_least": 0.97}),
    "votes": ("people: answers an item", {"at_most": 2.2}),
    "least": ("people: answers of the item with fewest", {"at_least": 1}),
    "disputed": ("people: left open by all five", {}),
}
_LOOKED: dict[str, tuple[str, dict[str, Any]]] = {
    "found": ("label errors: wrong labels that are looked at again", {"at_least": 0.95}),
    "looked": ("label errors: items that are looked at again", {"at_most": 0.1}),
    "right_before": ("label errors: labels right before", {}),
    "right_after": ("label errors: labels right after two more people looked", {}),
}

if __name__ == "__main__":
    main()
