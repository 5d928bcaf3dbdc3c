"""How does a candidate do beside the current head on gold? Both read the same stored vectors; then the gate decides."""

from datetime import UTC, datetime

import numpy as np

from winnow_annotation.gate.decide import Answers, decide, same
from winnow_annotation.gate.paired import pairs_of
from winnow_annotation.gate.verdict import PromiseCheck, Verdict
from winnow_annotation.guarantees.fit import fit
from winnow_annotation.guarantees.rank_counts import RankCounts
from winnow_annotation.learn_spec import GateSpec, LearnSpec
from winnow_annotation.policies import Policy, Rule
from winnow_annotation.ranks import ranks
from winnow_annotation.stopping import Stopping, advise
from winnow_annotation.wishes import ruled_by
from winnow_jobs.draws import Draw, DrawSet
from winnow_jobs.evaluation.true_items import TrueItem
from winnow_jobs.head_learning.labelled import Labelled
from winnow_jobs.promises import labelled_draws
from winnow_workers.classifiers.readings import OneLabel
from winnow_workers.heads import Head

_TOP = 5
_NO_RUN = datetime(1970, 1, 1, tzinfo=UTC)  # gold was drawn by runs of other models


def answers_of(head: Head, gold: Labelled) -> Answers:
    """What a head says of gold."""
    if not len(gold):
        return Answers(np.zeros(0, np.bool_), np.zeros(0))
    chances = head.scores(gold.vectors)
    said = np.array(head.labels, dtype=object)[chances.argmax(axis=1)]
    return Answers(said == np.array(gold.labels, dtype=object), chances.max(axis=1))


def judge(
    candidate: Head, current: Head | None, gold: Labelled, rules: GateSpec, policy: Policy | None, *, alone: str
) -> Verdict:
    """The gate's verdict; `alone` says why there is nothing to compare with, if `current` is None."""
    answers = answers_of(candidate, gold)
    if current is None:
        return decide(gold.labels, answers, None, rules, alone=alone)
    if is_same(candidate, current):
        return same(gold.labels, answers)
    checks = () if policy is None else promise_checks(candidate, current, gold, policy)
    return decide(gold.labels, answers, answers_of(current, gold), rules, checks)


def is_same(one: Head, other: Head) -> bool:
    """Whether two heads are equal in all that decides their answers."""
    if (one.labels, one.embedding, one.architecture) != (other.labels, other.embedding, other.architecture):
        return False
    return all(np.array_equal(getattr(one.rule, name), getattr(other.rule, name)) for name in one.rule.__slots__)


def stopping(candidate: Head, of_half: Head, gold: Labelled, labels: int, rules: LearnSpec) -> Stopping:
    """Whether more labels still help, from a head that half of them taught."""
    pairs = pairs_of(answers_of(candidate, gold).right, answers_of(of_half, gold).right)
    return advise(pairs, labels, worthwhile=rules.worthwhile, certainty=rules.gate.certainty)


def promise_checks(candidate: Head, current: Head, gold: Labelled, policy: Policy) -> tuple[PromiseCheck, ...]:
    """Whether gold supports the promises of a policy with each head: those that go by scores, as routing does.

    This shows what may be expected, and promises nothing: gold chooses models, so it is no evidence for them.
    """
    drawn = {name: _draws(head, gold) for name, head in (("candidate", candidate), ("current", current))}
    found = []
    for name, rule in policy.rules().items():
        if rule.is_promise and rule.rank == "score":
            ours, testable = _supported(drawn["candidate"], policy, name, rule)
            theirs, _ = _supported(drawn["current"], policy, name, rule)
            found.append(
                PromiseCheck(
                    name, _text(name, rule), testable, ours is not None, theirs is not None, ours or 0.0, theirs or 0.0
                )
            )
    return tuple(found)


def _draws(head: Head, gold: Labelled) -> DrawSet:
    """Gold as if it had been drawn from a run of this head."""
    reading = OneLabel(head.labels, _TOP)
    draws = []
    logits_of = head.logits(gold.vectors) if len(gold) else ()
    for key, item, logits, label in zip(gold.keys, gold.items, logits_of, gold.labels, strict=True):
        said = reading.read(logits)
        struct = dict(said.fields) | {"score": said.score, "p_ok": None}
        ok = struct["label"] == label
        draws.append(Draw(key, item, "", _NO_RUN, "", None, struct, TrueItem(label=label), ok, float(not ok)))
    return DrawSet(tuple(draws), len(draws))


def _supported(drawn: DrawSet, policy: Policy, name: str, rule: Rule) -> tuple[float | None, bool]:
    """(the share of gold that is accepted under the promise, None if gold does not support it; whether it could)."""
    rows = drawn.structs("classify")
    place = list(policy.rules()).index(name)
    counts = RankCounts()
    own = ruled_by(drawn.predictions("classify", rows), policy) == place
    counts.add(ranks("classify", rows, rule, policy.harmful)[own])
    found = fit(rule, labelled_draws("classify", policy, name, drawn, rows), counts)
    coverage = None if found.threshold is None else counts.share_from(found.threshold)
    return coverage, found.tested > 0


def _text(name: str, rule: Rule) -> str:
    key = rule.promise or ""
    where = f" of class {name}" if name else ""
    return f"{key} {getattr(rule, key):g}{where}"
