"""What do people's answers say together? From labels, known answers and the model's beliefs: a row for every item."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from winnow_annotation.consensus.annotators import AnnotatorQuality, annotator_quality, mean_agreement
from winnow_annotation.consensus.beliefs import belief_of
from winnow_annotation.consensus.decision import Limits, Standing, State, decide, votes_wanted
from winnow_annotation.consensus.kinds import OPERATORS, Rules, consensus_of
from winnow_annotation.consensus.opinions import Answer, Consensus, Method, Value
from winnow_jobs.consensus.asked import Place, sent_rows
from winnow_jobs.consensus.gold import gold_values, read_gold
from winnow_jobs.consensus.live import LiveItem, live_items, who
from winnow_jobs.consensus.rows import ConsensusRow, Subject, consensus_id, is_withdrawn, standing_rows
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.runs import Runs
from winnow_jobs.verify.labels import read_labels
from winnow_storage.errors import StoreError
from winnow_storage.ids import canonical_json
from winnow_storage.records import Label
from winnow_storage.schemas import Purpose

GOLD = "gold"  # the method of an item whose answer was known before
_RANDOM = (Purpose.AUDIT, Purpose.CALIBRATE)


@dataclass(frozen=True, slots=True)
class TaskConsensus:
    """Of one task: `rows` of every item with answers, `new` those to append, and how good people are."""

    task: str
    operator: str
    rows: tuple[ConsensusRow, ...]
    new: tuple[ConsensusRow, ...]
    people: tuple[AnnotatorQuality, ...]
    agreement: float | None
    pairs: int

    def record(self) -> dict[str, Any]:
        """What commands and the report say."""
        states = [row.state for row in self.rows]
        votes = sum(row.votes for row in self.rows)
        return {
            "task": self.task,
            "operator": self.operator,
            "items": len(self.rows),
            "answers": votes,
            "answers_per_item": votes / len(self.rows) if self.rows else 0.0,
            "states": {state.value: states.count(state) for state in State if state in states},
            "new_rows": len(self.new),
            "agreement": self.agreement,
            "agreement_pairs": self.pairs,
            "annotators": [asdict(one) for one in self.people],
            "disputes": [
                {"key": row.key, "answer": row.answer, "posterior": row.posterior, "annotators": list(row.annotators)}
                for row in self.rows
                if row.state == State.DISPUTED
            ],
        }


def job_labels(runs: Runs) -> list[Label]:
    """Every event of the bucket, in order.

    Raises:
        StoreError: as the store says, or an object of labels is damaged.
    """
    labels, findings = read_labels(runs.store)
    for finding in findings:
        raise StoreError(f"{runs.store.root}/{finding.key}: {finding.what}", hint=finding.next)
    return labels


def form_consensus(spec: ResolvedSpec, runs: Runs, *, tasks: Sequence[str], at: datetime) -> list[TaskConsensus]:
    """The consensus of these tasks (of all that people answer, if none is named) from what stands now; writes nothing.

    Raises:
        StoreError: as the store says, or labels are damaged. UsageError: known answers cannot be read.
    """
    events, standing, sent = job_labels(runs), standing_rows(runs.store), sent_rows(runs)
    chosen = [task for task in spec.tasks if task.kind in OPERATORS and (not tasks or task.name in tasks)]
    found = []
    for task in chosen:
        before = {subject: row for subject, row in standing.items() if subject[:2] == (spec.job, task.name)}
        found.append(_Former(spec, task, live_items(events, spec.job, task.name), sent).form(before, at))
    return found


@dataclass(frozen=True, slots=True)
class _Former:
    spec: ResolvedSpec
    task: ResolvedTask
    live: Mapping[str, LiveItem]
    sent: Mapping[Place, Mapping[str, Any]]

    def form(self, before: Mapping[Subject, ConsensusRow], at: datetime) -> TaskConsensus:
        operator = self.task.kind
        gold, decided = self._gold(), self._adjudicated()
        known = {**gold, **{item: value for item, (value, _) in decided.items()}}
        opinions = [
            one
            for item, live in self.live.items()
            for one in live.opinions(without=[decided[item][1]] if item in decided else ())
        ]
        method, beliefs = self.spec.review.consensus.method, self._beliefs()
        rules = Rules(method=method, labels=self._labels(), known=known)
        people_rules = replace(rules, method=Method.DAWID_SKENE if method is Method.DAWID_SKENE_MODEL else method)
        people = consensus_of(operator, opinions, people_rules)
        together = people
        if method is Method.DAWID_SKENE_MODEL and beliefs:
            together = consensus_of(operator, opinions, replace(rules, beliefs=beliefs))
        rows = [
            self._row(live, (together, people), gold.get(item), decided.get(item), before, at)
            for item, live in sorted(self.live.items())
        ]
        formed = [row for row in rows if row is not None]
        changed = [row for row in formed if not _stands(row, before)]
        gone = [
            _withdrawn(row, at) for row in before.values() if row.item_id not in self.live and not is_withdrawn(row)
        ]
        agreement, pairs = mean_agreement(operator, opinions)
        return TaskConsensus(
            self.task.name,
            operator,
            tuple(formed),
            (*changed, *gone),
            tuple(annotator_quality(operator, opinions, together, gold)),
            agreement,
            pairs,
        )

    def _row(
        self,
        live: LiveItem,
        found: tuple[Consensus, Consensus],
        gold: Value | None,
        decided: tuple[Value, str] | None,
        before: Mapping[Subject, ConsensusRow],
        at: datetime,
    ) -> ConsensusRow | None:
        known = gold if decided is None else decided[0]
        nothing = None if known is None else Answer(known, 1.0, agreed=True)
        together, people = (one.answers.get(live.item_id, nothing) for one in found)
        if together is None or people is None:
            return None  # nobody said anything that counts
        if known is not None:
            together, people = (
                replace(together, value=known, posterior=1.0),
                replace(people, value=known, posterior=1.0),
            )
        purposes = {label.purpose for label in live.labels}
        sure = people.posterior if purposes & set(_RANDOM) else together.posterior
        votes = len(live.labels) - (decided is not None)
        standing = Standing(sure, people.agreed, votes, is_adjudicated=decided is not None)
        limits = Limits() if gold is not None else self._limits(purposes)
        last, subject = live.last, (self.spec.job, self.task.name, live.item_id)
        row: dict[str, Any] = {
            "job": self.spec.job,
            "task": self.task.name,
            "operator": self.task.kind,
            "item_id": live.item_id,
            "version": live.version,
            "key": last.key,
            "uri": last.uri,
            "state": str(decide(standing, limits)),
            "answer": canonical_json(together.value),
            "posterior": float(together.posterior),
            "people_answer": canonical_json(people.value),
            "people_posterior": float(people.posterior),
            "agreed": bool(people.agreed),
            "votes": votes,
            "wanted": votes_wanted(standing, limits),
            "method": GOLD if gold is not None and decided is None else str(self.spec.review.consensus.method),
            "annotators": tuple(who(label) for label in live.labels),
            "labels": tuple(label.label_id for label in live.labels),
            "supersedes": before[subject].consensus_id if subject in before else None,
        }
        return ConsensusRow(consensus_id=consensus_id(row), formed_at=at, **row)

    def _limits(self, purposes: set[str]) -> Limits:
        """Who looks again comes on top, and so does somebody to decide where that one differs."""
        limits = self.spec.review.limits(self.task.name)
        return replace(limits, max_overlap=limits.max_overlap + 2) if Purpose.SECOND_LOOK in purposes else limits

    def _gold(self) -> dict[str, Value]:
        gold = self.spec.review.gold.get(self.task.name)
        if gold is None:
            return {}
        keys = {item: live.last.key for item, live in self.live.items()}
        return gold_values(read_gold(gold, self.task.kind), self.task.kind, keys)

    def _adjudicated(self) -> dict[str, tuple[Value, str]]:
        """Of the items that an adjudicator decided: what, and by which label."""
        spec = self.spec.review.adjudicate
        people = set() if spec is None else set(spec.people)
        found: dict[str, tuple[Value, str]] = {}
        for item, live in self.live.items():
            own = [one for one in live.labels if one.purpose == Purpose.ADJUDICATE and one.annotator in people]
            if own:
                last = max(own, key=lambda label: str(label.updated_at))
                found[item] = (live.value(last), last.label_id)
        return found

    def _beliefs(self) -> dict[str, Mapping[Any, float]]:
        found = {}
        for item, live in self.live.items():
            belief = belief_of(self.task.kind, *self._prediction(live))
            if belief is not None:
                found[item] = belief
        return found

    def _prediction(self, live: LiveItem) -> tuple[Mapping[str, Any], float | None]:
        row = self.sent.get((self.task.name, live.item_id, live.version))
        return prediction_of(row)

    def _labels(self) -> tuple[str, ...]:
        if self.task.kind != "classify":
            return ()
        tops = (self._prediction(live)[0].get("top") or [] for live in self.live.values())
        return tuple(sorted({str(one["label"]) for top in tops for one in top}))


def prediction_of(row: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], float | None]:
    """The prediction of a row of `routes/` and its p_ok; nothing where there is none."""
    if row is None or row["prediction"] is None:
        return {}, None
    return json.loads(row["prediction"]), row["p_ok"]


def _stands(row: ConsensusRow, before: Mapping[Subject, ConsensusRow]) -> bool:
    return row.subject in before and row.says_as(before[row.subject])


def _withdrawn(row: ConsensusRow, at: datetime) -> ConsensusRow:
    changes: dict[str, Any] = {
        "state": str(State.WITHDRAWN),
        "votes": 0,
        "wanted": 0,
        "annotators": (),
        "labels": (),
        "supersedes": row.consensus_id,
    }
    gone = replace(row, formed_at=at, **changes)
    return replace(gone, consensus_id=consensus_id(asdict(gone)))
