import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from winnow_workers.evaluation import multilabel
from winnow_workers.evaluation.classes import macro

LABELS = ["a", "b", "c"]
ITEM = st.tuples(*(st.tuples(st.booleans(), st.floats(0, 1)) for _ in LABELS))


@settings(max_examples=60, deadline=None)
@given(st.lists(ITEM, min_size=1, max_size=30))
def test_multilabel__agrees_with_scikit_learn(items: list[tuple[tuple[bool, float], ...]]) -> None:
    truth = np.array([[one for one, _ in item] for item in items])
    scores = np.array([[two for _, two in item] for item in items])
    said = scores >= 0.5
    true_sets = [{label for label, one in zip(LABELS, row, strict=True) if one} for row in truth]
    said_sets = [{label for label, one in zip(LABELS, row, strict=True) if one} for row in said]
    by_label = [dict(zip(LABELS, row, strict=True)) for row in scores]
    exact = metrics.accuracy_score(truth, said)
    assert multilabel.subset_accuracy(true_sets, said_sets) == pytest.approx(exact, abs=1e-12)
    assert multilabel.hamming_loss(true_sets, said_sets, LABELS) == pytest.approx(metrics.hamming_loss(truth, said))
    ours = multilabel.label_scores(true_sets, said_sets, LABELS)
    for average, found in (("macro", macro(ours)), ("micro", multilabel.micro_score(ours))):
        theirs = metrics.precision_recall_fscore_support(truth, said, average=average, zero_division=0)
        assert (found.precision, found.recall, found.f1) == pytest.approx(theirs[:3], abs=1e-9)
    per_label = multilabel.average_precisions(true_sets, by_label, LABELS)
    wanted = [
        metrics.average_precision_score(truth[:, place], scores[:, place])
        for place in range(len(LABELS))
        if truth[:, place].any()
    ]
    if wanted:
        assert multilabel.mean_ap(per_label) == pytest.approx(np.mean(wanted), abs=1e-9)
    else:
        assert np.isnan(multilabel.mean_ap(per_label))
