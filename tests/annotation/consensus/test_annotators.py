"""How good each person is, whether an item is settled, and which labels look wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from tests.annotation.consensus.crowds import choose
from winnow_annotation.consensus.annotators import annotator_quality, mean_agreement
from winnow_annotation.consensus.decision import Limits, Standing, State, decide, votes_wanted
from winnow_annotation.consensus.kinds import Rules, consensus_of
from winnow_annotation.label_errors import suspects
from winnow_storage.errors import UsageError


def test_annotator_quality__gold_and_agreement() -> None:
    opinions = [choose(i, 0, i % 3) for i in range(20)]
    opinions += [choose(i, 1, i % 3 if i < 15 else (i + 1) % 3) for i in range(20)]
    gold = {f"{i:05d}": {"label": str(i % 3)} for i in range(10, 20)}
    consensus = consensus_of("classify", opinions, Rules(known=gold))
    ann, bob = annotator_quality("classify", opinions, consensus, gold)
    assert (ann.annotator, ann.answers, ann.gold, ann.gold_right) == ("ann", 20, 10, 10.0)
    assert (bob.gold, bob.gold_right) == (10, 5.0)
    assert ann.agreement == bob.agreement == pytest.approx(0.75)
    assert ann.accuracy > bob.accuracy
    assert mean_agreement("classify", opinions) == (pytest.approx(0.75), 20)


standings = st.builds(Standing, st.floats(0, 1), st.booleans(), st.integers(0, 6), st.booleans())
limits = st.tuples(st.integers(1, 5), st.integers(0, 3)).map(lambda two: Limits(two[0], two[0] + two[1]))


@given(standing=standings, limits=limits)
def test_decide__asks_only_while_it_may_and_must(standing: Standing, limits: Limits) -> None:
    state = decide(standing, limits)
    if state is State.ASKING:
        assert standing.votes < limits.max_overlap
        assert standing.posterior < limits.sure or standing.votes < limits.overlap
        assert standing.votes < votes_wanted(standing, limits) <= limits.max_overlap
    else:
        assert votes_wanted(standing, limits) == standing.votes
    if state is State.DISPUTED:
        assert not standing.agreed
        assert standing.votes >= limits.max_overlap


def test_suspects__injected_label_errors_come_first() -> None:
    vectors, digits = load_digits(return_X_y=True)
    vectors, digits = vectors[:900], digits[:900]
    rng = np.random.default_rng(0)
    wrong = set(rng.permutation(900)[:45].tolist())
    labels = [str((d + 3) % 10) if place in wrong else str(d) for place, d in enumerate(digits.tolist())]
    found = suspects(vectors, labels, seed=1)
    assert len(found) == 900
    first = {one.place for one in found[:90]}
    assert len(first & wrong) >= 0.93 * 45
    right = [one.better == str(digits[one.place]) for one in found[:90] if one.place in wrong]
    assert np.mean(right) > 0.9
    assert {one.place for one in found if one.is_issue} & wrong
    assert suspects(vectors, labels, seed=1) == found


def test_suspects__too_few_labels_say_so() -> None:
    with pytest.raises(UsageError, match="fewer than two classes"):
        suspects(np.zeros((4, 2)), ["a", "a", "b", "b"])
