"""Classes of several people: majority, Dawid-Skene, with the model, and what gold teaches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.annotation.consensus.crowds import ACCURACY, NAMES, choose, says
from winnow_annotation.consensus.beliefs import belief_of
from winnow_annotation.consensus.choices import consensus_of_choices
from winnow_annotation.consensus.dawid_skene import dawid_skene
from winnow_annotation.consensus.opinions import Method, Opinion
from winnow_annotation.consensus.votes import count_votes, majority

said = st.lists(st.tuples(st.sampled_from("pqrst"), st.sampled_from("xyz"), st.sampled_from("abc")), max_size=30)


@settings(max_examples=60, deadline=None)
@given(said=said)
def test_dawid_skene__gives_probabilities_whatever_is_said(said: list[tuple[str, str, str]]) -> None:
    votes, names = count_votes(said, answers=("a", "b", "c"), items=("nobody",))
    fit = dawid_skene(votes)
    assert fit.posterior.shape == (len(names.items), 3)
    assert np.allclose(fit.posterior.sum(axis=1), 1)
    assert np.allclose(fit.confusion.sum(axis=2), 1)
    assert ((fit.accuracy > 0) & (fit.accuracy < 1)).all()
    assert np.isclose(fit.classes.sum(), 1)


@settings(max_examples=40, deadline=None)
@given(said=said, seed=st.integers(0, 99))
def test_consensus__order_and_names_of_classes_change_nothing(said: list[tuple[str, str, str]], seed: int) -> None:
    last = {(item, who): label for item, who, label in said}
    opinions = [Opinion(item, who, {"label": label}) for (item, who), label in last.items()]
    mixed = [opinions[place] for place in np.random.default_rng(seed).permutation(len(opinions))]
    one = consensus_of_choices(opinions, "label", method=Method.DAWID_SKENE)
    assert consensus_of_choices(mixed, "label", method=Method.DAWID_SKENE) == one
    renamed = [Opinion(o.item, o.annotator, {"label": {"a": "c", "b": "b", "c": "a"}[o.value["label"]]}) for o in mixed]
    other = consensus_of_choices(renamed, "label", method=Method.DAWID_SKENE)
    for item, answer in one.answers.items():
        assert other.answers[item].posterior == pytest.approx(answer.posterior, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(label=st.sampled_from("abc"), people=st.integers(2, 5))
def test_consensus__all_who_agree_are_believed(label: str, people: int) -> None:
    opinions = [Opinion("it", NAMES[place], {"label": label}) for place in range(people)]
    for method in Method:
        answer = consensus_of_choices(opinions, "label", method=method, answers=("a", "b", "c")).answers["it"]
        assert (answer.value, answer.agreed) == ({"label": label}, True)
        assert answer.posterior > 0.8


def test_majority__of_equals_the_first_and_the_share() -> None:
    votes, names = count_votes([("i", "x", "b"), ("i", "y", "a"), ("j", "x", "b"), ("j", "y", "b"), ("j", "z", "a")])
    best, share = majority(votes)
    assert [names.answers[place] for place in best] == ["a", "b"]
    assert share.tolist() == [0.5, pytest.approx(2 / 3)]


def test_dawid_skene__beats_majority_and_finds_out_who_is_good() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 10, 800)
    answers = says(truth, ACCURACY, 10, rng)
    some = [rng.permutation(5)[:3] for _ in truth]
    opinions = [choose(item, int(who), int(answers[who, item])) for item, three in enumerate(some) for who in three]
    right = {}
    for method in (Method.MAJORITY, Method.DAWID_SKENE):
        found = consensus_of_choices(opinions, "label", method=method)
        right[method] = np.mean([found.answers[f"{i:05d}"].value["label"] == str(t) for i, t in enumerate(truth)])
    assert right[Method.DAWID_SKENE] > right[Method.MAJORITY] + 0.005
    assert found.accuracy["ann"] == pytest.approx(0.95, abs=0.04)
    assert [found.accuracy[name] for name in NAMES] == sorted(found.accuracy.values(), reverse=True)


def test_consensus__one_who_always_takes_a_for_b_is_seen_through() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 300)
    good = says(truth, (0.9, 0.9), 3, rng)
    odd = np.where(truth == 0, 1, truth)
    opinions = [choose(i, who, int(good[who, i])) for i in range(300) for who in (0, 1)]
    opinions += [choose(i, 2, int(odd[i])) for i in range(300)]
    found = consensus_of_choices(opinions, "label", method=Method.DAWID_SKENE)
    assert found.confusion["cat"]["0", "1"] > 0.8
    assert found.confusion["cat"]["2", "2"] > 0.8
    assert found.confusion["cat"]["0", "1"] == max(p for (t, g), p in found.confusion["cat"].items() if t != g)


def test_consensus__gold_teaches_who_is_reliable_and_stands() -> None:
    gold = {f"{i:05d}": str(i % 2) for i in range(40)}
    opinions = [choose(i, 0, i % 2) for i in range(40)] + [choose(i, 1, 1 - i % 2) for i in range(40)]
    opinions += [choose(99, 0, 0), choose(99, 1, 1)]
    found = consensus_of_choices(opinions, "label", method=Method.DAWID_SKENE, known=gold)
    assert found.answers["00099"].value == {"label": "0"}
    assert found.accuracy["ann"] > 0.9
    assert found.accuracy["bob"] < 0.3
    assert found.answers["00001"].posterior == 1.0


def test_consensus__the_model_speaks_only_where_nobody_saw_its_answer() -> None:
    beliefs = {"00000": {"a": 0.97, "b": 0.03}, "00001": {"a": 0.97, "b": 0.03}}
    opinions = [Opinion("00000", "ann", {"label": "a"}), Opinion("00001", "ann", {"label": "a"}, is_blind=False)]
    opinions += [Opinion("00002", "ann", {"label": "a"})]
    found = consensus_of_choices(opinions, "label", method=Method.DAWID_SKENE_MODEL, answers="ab", beliefs=beliefs)
    assert found.answers["00000"].posterior > 0.97
    assert found.answers["00001"].posterior == pytest.approx(found.answers["00002"].posterior)


def test_consensus__says_nothing_of_answers_without_the_field() -> None:
    assert consensus_of_choices([Opinion("i", "ann", {})], "label", method=Method.DAWID_SKENE).answers == {}


def test_belief_of__has_p_ok_on_the_label_and_one_in_all() -> None:
    top = [{"label": "a", "score": 0.6}, {"label": "b", "score": 0.3}]
    belief = belief_of("classify", {"label": "a", "top": top}, 0.8)
    assert belief is not None
    assert belief["a"] == pytest.approx(0.8)
    assert belief["b"] == pytest.approx(0.2 * 0.3 / 0.4)
    assert belief_of("classify", {"label": "a", "top": top}, None) is None
    assert belief_of("anomaly", {"is_anomalous": True}, 0.75) == {True: 0.75, False: 0.25}
    assert belief_of("ocr", {"full_text": "x"}, 0.75) is None
