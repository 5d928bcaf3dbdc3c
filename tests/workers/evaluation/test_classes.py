import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from winnow_workers.evaluation import classes

LABELS = "abcde"
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, None])), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_scores__agree_with_scikit_learn(pairs: list[tuple[str, str | None]]) -> None:
    true, said = [one for one, _ in pairs], [two for _, two in pairs]
    counts = classes.confusion(true, said)
    named = ["<none>" if one is None else one for one in said]
    labels = classes.labels_of(counts)
    assert classes.accuracy(counts) == pytest.approx(metrics.accuracy_score(true, named), abs=1e-12)
    scores = classes.class_scores(counts)
    theirs = metrics.precision_recall_fscore_support(true, named, labels=labels, zero_division=0)
    assert [one.label for one in scores] == labels
    assert (
        pytest.approx(np.array(theirs), abs=1e-9)
        == np.array([(one.precision, one.recall, one.f1, one.support) for one in scores]).T
    )
    averages = {
        "macro": classes.macro(scores),
        "weighted": classes.weighted(scores),
        "micro": classes.micro(counts),
    }
    for name, ours in averages.items():
        wanted = metrics.precision_recall_fscore_support(true, named, labels=labels, average=name, zero_division=0)
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(wanted[:3], abs=1e-9), name
    if len(labels) > 1:  # theirs warns of a single label
        theirs_matrix = metrics.confusion_matrix(true, named, labels=labels)
        assert np.array_equal(classes.matrix(counts, labels)[:, :-1], theirs_matrix)
    answered = [(one, two) for one, two in zip(true, named, strict=True) if two in labels]
    assert classes.matrix(counts, labels)[:, -1].sum() == len(true) - len(answered)


def test_scores__balanced_accuracy_and_the_worst_confusions() -> None:
    counts = classes.confusion(["a", "a", "a", "b", "b"], ["a", "b", "b", "b", None])
    assert classes.balanced_accuracy(classes.class_scores(counts)) == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert classes.most_confused(counts, 5) == [("a", "b", 2), ("b", None, 1)]
    assert classes.top_k_hit("c", ["a", "b", "c"], 3)
    assert not classes.top_k_hit("c", ["a", "b", "c"], 2)


def test_scores__nothing_at_all() -> None:
    assert np.isnan([classes.accuracy({}), classes.macro([]).f1, classes.balanced_accuracy([])]).all()
