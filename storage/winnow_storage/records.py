"""What does the ledger keep? Plain records; the SQL behind them is in `ledger`."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class PushState(StrEnum):
    """How far a review task is on its way to Label Studio."""

    PENDING = "pending"  # selected by a router, not sent
    SENDING = "sending"  # a request may have left: look before sending again
    PUSHED = "pushed"  # Label Studio has it, as `ls_task_id`
    DELETED = "deleted"  # a person deleted it there: it is not sent again


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The index entry of a run; the truth is in the bucket at `output`."""

    output: str
    run_id: str
    job: str
    state: str  # open | done | partial | failed | abandoned
    plan_digest: str
    started_at: datetime
    ended_at: datetime | None = None
    summary: str | None = None  # JSON of the run's summary


@dataclass(frozen=True, slots=True)
class ReviewTask:
    """An item on its way to a person.

    While it is sending, `fence` is what its import rests on in Label Studio: once that is taken away, what has not
    arrived never will.
    """

    dedupe_key: str
    output: str
    job: str
    run_id: str
    task: str
    operator: str
    item_id: str
    version: str
    key: str
    uri: str
    purpose: str  # review | audit | calibrate
    round: int
    reason: str
    state: PushState = PushState.PENDING
    project_id: int | None = None
    ls_task_id: int | None = None
    fence: int | None = None


@dataclass(frozen=True, slots=True)
class LabelStudioProject:
    """Which Label Studio project holds a task's review tasks."""

    url: str  # of the Label Studio server
    job: str
    task: str
    project_id: int
    config_hash: str


@dataclass(frozen=True, slots=True)
class Label:
    """One state in which one person's annotation was seen. Fields as in `schemas.LABELS`."""

    label_id: str
    event: str
    dedupe_key: str
    job: str
    task: str
    operator: str
    item_id: str
    version: str
    key: str
    uri: str
    purpose: str
    run_id: str
    server: str
    annotation_id: str
    project_id: int
    ls_task_id: int
    annotator: str | None
    created_at: datetime | None
    updated_at: datetime | None
    was_cancelled: bool
    lead_time_s: float | None
    value: str | None
    raw: str | None
    config_hash: str | None
    model: str | None
    shown: str | None
    comment: str | None = None
    supersedes: str | None = None


@dataclass(frozen=True, slots=True)
class ModelRow:
    """The index entry of a version of a model; the truth is in the registry at `registry` (a URI)."""

    registry: str
    name: str
    version: str
    uri: str
    sha256: str
    bytes: int
    kind: str | None
    architecture: str | None
    licence: str | None
    parent: str | None
    labels: int | None  # how many it knows
    added_at: datetime
    card: str  # JSON, with the preprocessing, the label set and the metrics


@dataclass(frozen=True, slots=True)
class ModelStageRow:
    """The index entry of one move of a stage: the `number`th entry of the model's log in the registry."""

    registry: str
    name: str
    number: int
    stage: str
    version: str
    action: str  # promote | rollback
    moved_by: str | None
    why: str | None
    at: datetime
