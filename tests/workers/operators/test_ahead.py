"""Does an operator whose network is sent bytes ahead say what it says on a CPU?"""

import math

import numpy as np
import pytest

from tests.workers.models.told import Told, ringed
from tests.workers.operators.making import opened, view
from winnow_workers.models.fixed_batch import FixedBatch
from winnow_workers.operator import Operator, Prediction
from winnow_workers.operators.classify import ClassifyOperator

SMALL = {"height_px": 32, "width_px": 32}
CASES = {
    "classify": "timm/test_resnet",
    "segment": "builtin/small_unet",
    "anomaly": "builtin/patch_features",
    "embed": "timm/test_resnet",
}


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("name", list(CASES))
def test_begin__says_the_same_later(name: str, fit: str) -> None:
    params = {"labels": ["ground", "thing"]} if name == "segment" else {}
    operator = opened(name, CASES[name], weights={"random": 1}, input={**SMALL, "fit": fit}, **params)
    views = [view(np.random.default_rng(seed).integers(0, 256, (30, 40 + seed, 3), np.uint8)) for seed in range(11)]
    expected = operator.run(views)
    told = Told()
    ringed(batch_of(operator), told)
    awaited = operator.begin(views)
    recorded = [step[1] for step in told.log if step[0] == "record" and step[2] == "running"]
    assert len(recorded) == 2  # two batches of eight, and nobody waited
    assert not {("synchronize", one) for one in recorded} & set(told.log)
    assert awaited.held_bytes > 0
    for ours, theirs in zip(awaited.collect(), expected, strict=True):
        assert_alike(ours, theirs)
    assert {("synchronize", one) for one in recorded} <= set(told.log)


def batch_of(operator: Operator[object]) -> FixedBatch:  # type: ignore[type-var]
    if isinstance(operator, ClassifyOperator):
        return operator._classifier.batch
    semantic = getattr(operator, "_semantic", None)
    batch = getattr(semantic or operator, "_batch")  # noqa: B009
    assert isinstance(batch, FixedBatch)
    return batch


def assert_alike(ours: Prediction, theirs: Prediction) -> None:
    assert ours.score_kind == theirs.score_kind
    if theirs.score is not None:
        assert ours.score is not None
        assert math.isclose(ours.score, theirs.score, abs_tol=1e-4)
    for name in ("label", "is_anomalous"):
        assert ours.fields.get(name) == theirs.fields.get(name)
    if "vector" in theirs.fields:
        np.testing.assert_allclose(ours.fields["vector"], theirs.fields["vector"], atol=1e-3)  # type: ignore[call-overload]
