"""Of sets of labels and nodes of a tree too a learned p_ok is true, of a model that is too sure of itself."""

import numpy as np
import pyarrow as pa
import pytest

from winnow_jobs.acceptance import is_accepted
from winnow_workers.classifiers.label_tree import LabelTree
from winnow_workers.classifiers.readings import Node, Reading, SeveralLabels, sigmoid, softmax
from winnow_workers.confidence.calibrator import FittedOn, Subject, fit_calibrator
from winnow_workers.confidence.features import Features, features, fields_of
from winnow_workers.confidence.parts import Bools
from winnow_workers.evaluation.calibration_error import expected_calibration_error

LABELS = ("cat", "dog", "car", "bus")
PARENTS = {"cat": "animal", "dog": "animal", "car": "vehicle", "bus": "vehicle", "animal": None, "vehicle": None}
READINGS = {
    "set": SeveralLabels(LABELS, np.full(4, 0.5), 0.05),
    "tree": Node(LABELS, LabelTree.over(PARENTS, LABELS), 0.6, 3),
}
SURER = 2.5  # the model's logits over the true ones


def judged(reading: Reading, n: int, seed: int) -> tuple[Features, Bools]:
    rng = np.random.default_rng(seed)
    structs, ok = [], []
    for logits in rng.normal(size=(n, 4)) * 2:
        said = reading.read(SURER * logits)
        struct = {"score": said.score, **said.fields}
        if isinstance(reading, SeveralLabels):
            true = {"labels": [la for la, p in zip(LABELS, sigmoid(logits), strict=True) if rng.uniform() < p]}
        else:
            label = str(rng.choice(LABELS, p=softmax(logits)))
            true = {"label": label, "path": [label, PARENTS[label]]}
        structs.append(struct)
        ok.append(bool(is_accepted("classify", struct, true)))
    names = fields_of("classify")
    return features("classify", pa.array([{name: one[name] for name in names} for one in structs])), np.array(ok)


@pytest.mark.parametrize("way", READINGS)
def test_p_ok__of_sets_and_nodes(way: str) -> None:
    subject = Subject(task="kind", operator="classify", model="m", task_digest="t")
    found, ok = judged(READINGS[way], 1500, 1)
    draw = FittedOn(labels=0, right=0, runs=(), source="truth")
    calibrator = fit_calibrator(subject, found, ok, population=found.score, fitted_on=draw)
    fresh, fresh_ok = judged(READINGS[way], 3000, 2)
    p_ok = calibrator.p_ok(fresh)
    assert 0.1 < 1 - fresh_ok.mean() < 0.9
    assert expected_calibration_error(p_ok, fresh_ok) < 0.03 < expected_calibration_error(fresh.score, fresh_ok)
