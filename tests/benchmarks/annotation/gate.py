"""Does the gate keep poisoned heads out, and let better ones in? With the product's own learning and judging.

scikit-learn's digits, pixels as vectors, split anew by each seed into gold, what teaches, and a hidden rest that tells
the true accuracy of every head.

poisoned: the current head learned from 300 right labels; the candidate from these and 60 more, of all of which a random
20 % say another digit. better: the candidate learned from twice the labels of the current head, 100 and 200 (200 and
400 beside it), all of them right. worse by nothing: the same number of other labels, for the rate at which a candidate
that is no better gets in.

Both kinds are what they are called only if the hidden images say so too: the true differences are printed, and rounds
of the wrong sign are counted and left in.

    python -m tests.benchmarks.annotation.gate --rounds 100
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from tests.benchmarks.engine.line import say
from winnow_annotation.gate.paired import pairs_of
from winnow_annotation.gate.verdict import Verdict
from winnow_annotation.head_fit import examples_of, half
from winnow_annotation.learn_spec import GateSpec
from winnow_annotation.stopping import Advice, advise
from winnow_jobs.head_learning.fit import FittedHead, HeadKind, fit_head
from winnow_jobs.head_learning.judge import answers_of, judge
from winnow_jobs.head_learning.labelled import Labelled
from winnow_workers.heads import Embedding, Head

GOLD, FLIPPED = 500, 0.2
LOOK = Embedding(task="look", task_digest="0" * 64, dimensions=64)
RULES = GateSpec()

Numbers = np.ndarray


@dataclass(frozen=True, slots=True)
class Split:
    """A seed's digits: gold, places that may teach, hidden ones, and the source of all other chance."""

    gold: Labelled
    pool: Numbers
    hidden: Labelled
    random: np.random.Generator

    def labelled(self, places: Numbers, flipped: float = 0.0) -> tuple[Numbers, list[str]]:
        """Vectors and labels of these places; a share of the labels says another digit."""
        vectors, digits = data()
        said = digits[places].copy()
        wrong = self.random.permutation(len(places))[: round(flipped * len(places))]
        said[wrong] = (said[wrong] + self.random.integers(1, 10, len(wrong))) % 10
        return vectors[places], [str(digit) for digit in said]


@dataclass(frozen=True, slots=True)
class Round:
    """What the gate said of a candidate, and how much better it truly is, on the hidden images."""

    verdict: Verdict
    true_gain: float


@cache
def data() -> tuple[Numbers, Numbers]:
    """(1797, 64) pixels and (1797,) digits."""
    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target


def split(seed: int) -> Split:
    """Gold first: it is the same whatever teaches."""
    order = np.random.default_rng(seed).permutation(len(data()[1]))
    gold, pool, hidden = np.split(order, [GOLD, GOLD + 400])
    return Split(items(gold), pool, items(hidden), np.random.default_rng([seed, 1]))


def items(places: Numbers) -> Labelled:
    """Those of these places, with what is true."""
    vectors, digits = data()
    keys = tuple(f"{place:04d}.png" for place in places)
    return Labelled(keys, keys, vectors[places], tuple(str(digit) for digit in digits[places]))


def learned(vectors: Numbers, labels: list[str], seed: int, kind: HeadKind) -> FittedHead:
    """As the product learns a head."""
    return fit_head(examples_of(vectors, labels), LOOK, kind, seed=seed)


def poisoned(one: Split, seed: int, kind: HeadKind) -> tuple[Head, Head]:
    """(candidate, current)."""
    current = learned(*one.labelled(one.pool[:300]), seed, kind)
    return learned(*one.labelled(one.pool[:360], FLIPPED), seed, kind).head, current.head


def twice(labels: int) -> Callable[[Split, int, HeadKind], tuple[Head, Head]]:
    """Candidates of twice so many labels."""

    def better(one: Split, seed: int, kind: HeadKind) -> tuple[Head, Head]:
        current = learned(*one.labelled(one.pool[:labels]), seed, kind)
        return learned(*one.labelled(one.pool[: 2 * labels]), seed, kind).head, current.head

    return better


def no_better(one: Split, seed: int, kind: HeadKind) -> tuple[Head, Head]:
    """As many labels, of other images."""
    current = learned(*one.labelled(one.pool[:200]), seed, kind)
    return learned(*one.labelled(one.pool[200:400]), seed, kind).head, current.head


def rounds(make: Callable[[Split, int, HeadKind], tuple[Head, Head]], count: int, kind: HeadKind) -> list[Round]:
    """One of each seed."""
    found = []
    for seed in range(count):
        one = split(seed)
        candidate, current = make(one, seed, kind)
        verdict = judge(candidate, current, one.gold, RULES, None, alone="")
        right = [answers_of(head, one.hidden).right.mean() for head in (candidate, current)]
        found.append(Round(verdict, float(right[0] - right[1])))
    return found


def tell(name: str, found: list[Round], *, at_least: float | None, blocked: bool, kind: HeadKind) -> None:
    """One line: how many were blocked, or promoted."""
    promoted = [one.verdict.promote for one in found]
    figure = float(np.mean([one != blocked for one in promoted]))
    gains = sorted(one.true_gain for one in found)
    reasons = [reason for one in found for reason in one.verdict.reasons]
    say(
        f"gate: {name}: {'blocked' if blocked else 'promoted'}",
        [figure],
        at_least=at_least,
        setup=f"digits, seeds 0 to {len(found) - 1}, {kind} heads on pixels, {GOLD} gold items, margin {RULES.margin}, "
        f"certainty {RULES.certainty}",
        true_gain={
            "least": round(gains[0], 4),
            "median": round(float(np.median(gains)), 4),
            "most": round(gains[-1], 4),
        },
        of_the_other_sign=sum(gain >= 0 if blocked else gain <= 0 for gain in gains),
        promoted_though_worse_than_the_margin=sum(
            one.verdict.promote and one.true_gain <= -RULES.margin for one in found
        ),
        reasons={str(reason): reasons.count(reason) for reason in dict.fromkeys(reasons)},
    )


def stop(count: int) -> None:
    """Two lines: what is advised at few and at many labels."""
    for labels in (100, 400):
        said = []
        for seed in range(count):
            one = split(seed)
            vectors, names = one.labelled(one.pool[:labels])
            whole = learned(vectors, names, seed, HeadKind.LINEAR)
            part = whole.again(half(examples_of(vectors, names), seed))
            pairs = pairs_of(answers_of(whole.head, one.gold).right, answers_of(part, one.gold).right)
            said.append(advise(pairs, labels, worthwhile=0.01, certainty=0.95).advice)
        say(
            f"stopping rule: says enough at {labels} labels",
            [float(np.mean([one is Advice.ENOUGH for one in said]))],
            setup=f"digits, seeds 0 to {count - 1}, linear heads on pixels, {GOLD} gold items, worthwhile 0.01",
            advice={str(one): said.count(one) for one in Advice},
        )


def main() -> None:
    """Print a line per point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--head", choices=list(HeadKind), default=HeadKind.LINEAR, type=HeadKind)
    options = parser.parse_args()
    count, kind = options.rounds, options.head
    tell("20 % flipped labels", rounds(poisoned, count, kind), at_least=0.95, blocked=True, kind=kind)
    tell("twice 100 labels", rounds(twice(100), count, kind), at_least=0.8, blocked=False, kind=kind)
    tell("twice 200 labels", rounds(twice(200), count, kind), at_least=None, blocked=False, kind=kind)
    tell("as many other labels", rounds(no_better, count, kind), at_least=None, blocked=False, kind=kind)
    stop(min(count, 20))


if __name__ == "__main__":
    main()
