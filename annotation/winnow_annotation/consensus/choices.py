"""What is the class (or the verdict) of an item, when several people chose one? By majority or by Dawid-Skene."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from winnow_annotation.consensus.dawid_skene import Fit, Prior, dawid_skene
from winnow_annotation.consensus.opinions import Answer, Consensus, Method, Opinion
from winnow_annotation.consensus.votes import Floats, Names, count_votes, majority

Choice = Any  # a label, or whether an item is anomalous
Beliefs = Mapping[str, Mapping[Choice, float]]  # by item: what the model thinks, probabilities that sum to 1 at most


def consensus_of_choices(
    opinions: Sequence[Opinion],
    field: str,
    *,
    method: Method,
    answers: Sequence[Choice] = (),
    beliefs: Beliefs | None = None,
    known: Mapping[str, Choice] | None = None,
    prior: Prior | None = None,
) -> Consensus:
    """The consensus on `field` of the opinions' values; opinions without it say nothing.

    `answers` may be chosen whether anybody did or not. A model's `beliefs` count only for items whose every opinion is
    blind: who saw the model's answer repeats it. `known` has items of known truth (gold): they teach who is reliable.
    """
    said = [one for one in opinions if one.value.get(field) is not None]
    if not said:
        return Consensus({}, {})
    known = known or {}
    asked = {one.item for one in said}
    truths = {item: truth for item, truth in known.items() if item in asked}
    votes, names = count_votes(
        ((one.item, one.annotator, one.value[field]) for one in said), answers=[*answers, *truths.values()]
    )
    places = {answer: place for place, answer in enumerate(names.answers)}
    fixed = np.array([places[truths[item]] if item in truths else -1 for item in names.items], np.int64)
    seen = {one.item for one in said if not one.is_blind}
    wanted = method is Method.DAWID_SKENE_MODEL and beliefs is not None
    evidence = _evidence(names, {i: b for i, b in (beliefs or {}).items() if i not in seen}) if wanted else None
    fit = dawid_skene(votes, evidence=evidence, known=fixed, prior=prior)
    chosen, posterior = majority(votes) if method is Method.MAJORITY else fit.best()
    agreed = (votes.counts() > 0).sum(axis=1) <= 1
    values = zip(names.items, chosen.tolist(), posterior.tolist(), agreed.tolist(), strict=True)
    return Consensus(
        {item: Answer({field: names.answers[place]}, sure, same) for item, place, sure, same in values},
        dict(zip(names.annotators, fit.accuracy.tolist(), strict=True)),
        _confusion(fit, names),
    )


def _evidence(names: Names[Choice], beliefs: Beliefs) -> Floats:
    """(items, answers): NaN where the model says nothing; what it leaves of 1 goes to the answers it does not name."""
    table = np.full((len(names.items), len(names.answers)), np.nan)
    for place, item in enumerate(names.items):
        belief = beliefs.get(item)
        if belief is None:
            continue
        row = np.array([belief.get(answer, 0.0) for answer in names.answers])
        unnamed = np.array([answer not in belief for answer in names.answers])
        rest = max(0.0, 1.0 - float(row.sum()))
        row[unnamed] = rest / max(int(unnamed.sum()), 1)
        if row.sum() > 0:
            table[place] = row / row.sum()
    return table


def _confusion(fit: Fit, names: Names[Choice]) -> dict[str, dict[tuple[str, str], float]]:
    words = [str(answer) for answer in names.answers]
    return {
        annotator: {
            (true, given): float(fit.confusion[row, i, j])
            for i, true in enumerate(words)
            for j, given in enumerate(words)
        }
        for row, annotator in enumerate(names.annotators)
    }
