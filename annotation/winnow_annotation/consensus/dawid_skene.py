"""How reliable is each person, and so what is true of each item? Expectation-maximization over who confuses what.

Dawid & Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied Statistics 28,
1979. As people answer few items of each class, a person's confusions are drawn towards one number, how often the person
is right at all, and that towards what is usual (a hierarchical Dirichlet prior; Paun et al., Comparing Bayesian models
of annotation, TACL 2018). What a model says of an item takes the place of the class prior there, as in Branson,
Van Horn & Perona, Lean crowdsourcing, CVPR 2017.
"""

from dataclasses import dataclass

import numpy as np

from winnow_annotation.consensus.votes import Floats, Ints, Votes

_MAX_STEPS = 200
_STEP = 1e-6  # of a posterior: below, the fit has settled
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Prior:
    """What is thought of a person before any answer, in answers: `right` of `right + wrong` were right.

    `pull` is how many answers of a class weigh as much as what the person does over all classes.
    """

    right: float = 8.0
    wrong: float = 2.0
    pull: float = 10.0
    of_class: float = 1.0


@dataclass(frozen=True, slots=True)
class Fit:
    """`posterior` (items, answers); `confusion` (annotators, true answers, given answers); `accuracy` (annotators,);
    `classes` (answers,): how frequent each answer is.
    """

    posterior: Floats
    confusion: Floats
    accuracy: Floats
    classes: Floats

    def best(self) -> tuple[Ints, Floats]:
        """The likeliest answer of each item and its posterior, (items,) each; of equals the first."""
        chosen = self.posterior.argmax(axis=1).astype(np.int64)
        return chosen, self.posterior[np.arange(len(chosen)), chosen]


def dawid_skene(
    votes: Votes, *, evidence: Floats | None = None, known: Ints | None = None, prior: Prior | None = None
) -> Fit:
    """The maximum a posteriori of people's confusions, and what follows for the items.

    `evidence` (items, answers): what a model thinks of each item, rows summing to 1; a row of NaN says nothing.
    `known` (items,): the place of the true answer where it is known, else -1; those items teach who is reliable.
    """
    assumed = prior or Prior()
    start = assumed.right / (assumed.right + assumed.wrong)
    classes: Floats = np.full(votes.answers, 1.0 / votes.answers)
    confusion = one_coin(np.full(votes.annotators, start), votes.answers)
    accuracy: Floats = np.full(votes.annotators, start)
    posterior = _posterior(votes, confusion, classes, evidence, known)
    for _ in range(_MAX_STEPS):
        confusion, accuracy = _confusions(votes, posterior, assumed)
        summed = posterior[votes.per_item() > 0].sum(axis=0) + assumed.of_class
        classes = summed / summed.sum()
        last, posterior = posterior, _posterior(votes, confusion, classes, evidence, known)
        if np.abs(posterior - last).max(initial=0.0) < _STEP:
            break
    return Fit(posterior, confusion, accuracy, classes)


def one_coin(accuracy: Floats, answers: int) -> Floats:
    """(annotators, answers, answers): right with this probability (annotators,), else any other answer equally."""
    wrong = (1.0 - accuracy) / max(answers - 1, 1)
    table = np.broadcast_to(wrong[:, None, None], (len(accuracy), answers, answers)).copy()
    diagonal = np.arange(answers)
    table[:, diagonal, diagonal] = accuracy[:, None] if answers > 1 else 1.0
    return table


def _confusions(votes: Votes, posterior: Floats, prior: Prior) -> tuple[Floats, Floats]:
    counts = np.zeros((votes.annotators, votes.answers, votes.answers))  # annotator, given, true
    np.add.at(counts, (votes.annotator, votes.answer), posterior[votes.item])
    counts = counts.transpose(0, 2, 1)
    given = counts.sum(axis=(1, 2))
    right = np.einsum("akk->a", counts)
    accuracy = (right + prior.right) / (given + prior.right + prior.wrong)
    smooth = counts + prior.pull * one_coin(accuracy, votes.answers)
    return smooth / smooth.sum(axis=2, keepdims=True), accuracy


def _posterior(votes: Votes, confusion: Floats, classes: Floats, evidence: Floats | None, known: Ints | None) -> Floats:
    logs = np.tile(np.log(classes), (votes.items, 1))
    if evidence is not None:
        said = np.isfinite(evidence).all(axis=1)
        logs[said] = np.log(np.maximum(evidence[said], _TINY))
    np.add.at(logs, votes.item, np.log(np.maximum(confusion, _TINY))[votes.annotator, :, votes.answer])
    logs -= logs.max(axis=1, keepdims=True)
    posterior = np.exp(logs)
    posterior /= posterior.sum(axis=1, keepdims=True)
    if known is not None:
        there = known >= 0
        posterior[there] = 0.0
        posterior[there, known[there]] = 1.0
    return np.asarray(posterior, np.float64)
