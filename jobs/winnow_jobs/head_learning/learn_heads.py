"""How does a task get a new head? Learned from labels, registered, judged on gold, used only if the gate lets it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from winnow_annotation.gate.verdict import Verdict, notes, sentence
from winnow_annotation.head_fit import FOLDS, examples_of, half
from winnow_annotation.learn_spec import LearnSpec
from winnow_annotation.stopping import Stopping, advice_text
from winnow_jobs.head_learning.fit import FittedHead, HeadKind, fit_head
from winnow_jobs.head_learning.head_task import HeadJob, HeadTask
from winnow_jobs.head_learning.judge import is_same, judge, stopping
from winnow_jobs.head_learning.labelled import HeadLabels, head_labels, job_events
from winnow_jobs.runs import Runs
from winnow_storage.errors import ModelError, StoreError, UsageError
from winnow_storage.ids import digest_bytes
from winnow_storage.records import Label
from winnow_storage.registry import ModelEntry, Registry
from winnow_workers.heads import Embedding, Head, load_head, save_head
from winnow_workers.models.model_file import read_card

GOLD_SHARE = "gold_share"  # in a head's card: what was reserved when it was learned
NO_CURRENT = "there is no current model to compare it with"


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """`stage`: what is to name the new head, if the gate lets it; None: nothing. `by`: who asks for it."""

    kind: HeadKind = HeadKind.LINEAR
    seed: int = 0
    stage: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class LearnedHead:
    """A head in the registry, what taught it, and what the gate says. `promoted`: the stage that names it now."""

    task: str
    entry: ModelEntry
    is_new: bool
    current: ModelEntry | None
    labels: int
    by_class: Mapping[str, int]
    left_out: Mapping[str, int]
    accuracy: float  # of labels that were left out by turns
    verdict: Verdict
    stopping: Stopping
    promoted: str | None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "model": f"models/{self.entry.name}@{self.entry.version}",
            "new": self.is_new,
            "current": None if self.current is None else f"models/{self.current.name}@{self.current.version}",
            "labels": self.labels,
            "by_class": dict(self.by_class),
            "left_out": dict(self.left_out),
            "cross_validated_accuracy": self.accuracy,
            "gate": self.verdict.record() | {"text": sentence(self.verdict), "notes": list(notes(self.verdict))},
            "stopping": asdict(self.stopping) | {"text": advice_text(self.stopping)},
            "promoted": self.promoted,
        }


def learn_heads(
    job: HeadJob, runs: Runs, registry: Registry, options: HeadOptions
) -> dict[str, LearnedHead | UsageError]:
    """Learn, judge and perhaps promote a head for each task of the job.

    Where one task cannot learn, the others do all the same; its error stands in its place.

    Raises:
        StoreError: as the store says, or labels are damaged. ModelError: the current model cannot be read.
    """
    events = job_events(runs)
    found: dict[str, LearnedHead | UsageError] = {}
    for task in job.tasks:
        try:
            found[task.name] = _learn(job, runs, task, registry, events, options)
        except UsageError as error:
            found[task.name] = error
    return found


def _learn(
    job: HeadJob, runs: Runs, task: HeadTask, registry: Registry, events: list[Label], options: HeadOptions
) -> LearnedHead:
    rules, entry = job.spec.learn, task.current(registry, options.stage)
    share = _common_share(rules, entry)
    labels = head_labels(job.spec.job, runs, task, events, reserved=rules.gold, gold=share)
    examples = examples_of(labels.teaching.vectors, labels.teaching.labels)
    embedding = Embedding(task=task.vectors.name, task_digest=task.vectors.digest, dimensions=examples.vectors.shape[1])
    fitted = fit_head(examples, embedding, options.kind, seed=options.seed)
    current, alone = (None, NO_CURRENT) if entry is None else _current(registry, entry, embedding)
    if entry is not None and current is not None and is_same(fitted.head, current):
        candidate, is_new = entry, False
    else:
        data = _file_of(fitted, labels, rules, entry, task=task.name, seed=options.seed)
        candidate, is_new = _registered(registry, task.model, data)
    verdict = judge(fitted.head, current, labels.gold, rules.gate, task.policy, alone=alone)
    registry.keep_verdict(candidate, verdict.record() | {"against": None if entry is None else entry.version})
    promoted = None
    if options.stage is not None and verdict.promote:
        registry.promote(task.model, candidate.version, options.stage, by=options.by, why=sentence(verdict))
        promoted = options.stage
    of_half = fitted.again(half(examples, options.seed))
    return LearnedHead(
        task=task.name,
        entry=candidate,
        is_new=is_new,
        current=entry,
        labels=len(labels.teaching),
        by_class={name: labels.teaching.labels.count(name) for name in examples.classes},
        left_out=labels.left_out,
        accuracy=fitted.accuracy,
        verdict=verdict,
        stopping=stopping(fitted.head, of_half, labels.gold, len(labels.teaching), rules),
        promoted=promoted,
    )


def _current(registry: Registry, entry: ModelEntry, embedding: Embedding) -> tuple[Head | None, str]:
    """The head of an entry; None, and why, where it cannot be asked about these vectors."""
    data, named = registry.read(entry), f"models/{entry.name}@{entry.version}"
    if digest_bytes(data) != entry.sha256:
        raise StoreError(
            f"{named}: its file is not the one that was registered", hint=f"winnow models verify {entry.name}"
        )
    try:
        head = load_head(data, where=named)
    except ModelError as error:
        raise UsageError(
            f"the current model {named} cannot be compared with a head: {error.message}",
            hint=f"compare them with winnow evaluate, then winnow models promote {entry.name} VERSION STAGE",
        ) from error
    if head.embedding != embedding:
        return None, f"{named} reads vectors that are not made any more, so there is nothing to compare it with"
    return head, ""


def _file_of(
    fitted: FittedHead, labels: HeadLabels, rules: LearnSpec, parent: ModelEntry | None, *, task: str, seed: int
) -> bytes:
    return save_head(
        fitted.head,
        trained_on=f"{len(labels.teaching)} labels of {task}; gold, {rules.gold:g} of all items, left out",
        parent=None if parent is None else f"{parent.name}@{parent.version}",
        metrics={
            "accuracy": fitted.accuracy,
            "log_loss": fitted.log_loss,
            "measured_on": f"cross-validation, {FOLDS} folds",
            "labels": len(labels.teaching),
            "labels_digest": labels.digest,
            GOLD_SHARE: rules.gold,
            "seed": seed,
            **fitted.chosen,
        },
    )


def _registered(registry: Registry, name: str, data: bytes) -> tuple[ModelEntry, bool]:
    """The entry of a head file, and whether it is new."""
    known = set(registry.versions(name))
    card = read_card(data, where=f"models/{name}")
    added = registry.add(name, data, {} if card is None else card.model_dump(mode="json"))
    return added, added.version not in known


def _common_share(rules: LearnSpec, current: ModelEntry | None) -> float:
    """What taught neither the candidate nor the current head: the smaller of what is and what was reserved."""
    metrics = {} if current is None else current.card.get("metrics") or {}
    before = metrics.get(GOLD_SHARE)
    return min(rules.gold, float(before)) if isinstance(before, int | float) else rules.gold
