"""What were people asked about an item, and what do their answers say? Labels, consensus, review tasks: of one item."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow_jobs.consensus.asked import asked_about
from winnow_jobs.consensus.live import LiveItem, live_items
from winnow_jobs.consensus.rows import ConsensusRow, is_withdrawn, standing_rows_of_item
from winnow_jobs.verify.labels import labels_of_item
from winnow_storage.blobs import BlobStore
from winnow_storage.records import Label, ReviewTask

if TYPE_CHECKING:
    from winnow_storage.ledger import Ledger

OpenLedger = Callable[[], "Ledger | None"]


@dataclass(frozen=True, slots=True)
class Said:
    """Everything that people were asked and said about an item, over all tasks."""

    labels: tuple[Label, ...]
    consensus: Mapping[str, ConsensusRow]  # by task
    asked: tuple[dict[str, Any], ...]  # rows of `routes/` and `asked/`
    known: Mapping[str, ReviewTask]  # the ledger's, by dedupe_key
    server: str | None  # Label Studio, as the spec names it

    def live(self, job: str, task: str) -> LiveItem | None:
        """The answers that stand about a task."""
        return next(iter(live_items(self.labels, job, task).values()), None)

    def agreed(self, live: LiveItem, task: str) -> ConsensusRow | None:
        """The consensus that was formed of just these answers."""
        row = self.consensus.get(task)
        ids = {label.label_id for label in live.labels}
        if row is None or is_withdrawn(row) or row.version != live.version or set(row.labels) != ids:
            return None
        return row


def said_of(
    store: BlobStore,
    item_id: str,
    job: str,
    routes: Sequence[dict[str, Any]],
    ledger: "OpenLedger | None",
    server: str | None,
) -> Said:
    """What people were asked and said; `routes` are those of the item. The ledger is opened if anybody was asked.

    Raises:
        StoreError: as the store says, or an object of theirs is damaged. LedgerError: as it says.
    """
    routed = [row for row in routes if row["dedupe_key"] is not None]
    asked = [*routed, *asked_about(store, item_id)]
    consensus = {task: row for (of, task, _), row in standing_rows_of_item(store, item_id).items() if of == job}
    keys = [row["dedupe_key"] for row in asked]
    opened = None if ledger is None or not keys else ledger()
    known = {} if opened is None else opened.review_tasks_by_key(keys)
    labels = [label for label in labels_of_item(store, item_id) if label.job == job]
    return Said(tuple(labels), consensus, tuple(asked), known, server)


def asked_records(said: Said, task: str) -> list[dict[str, Any]]:
    """Every review task about a task of the item, oldest run first."""
    return [_asked(said, row) for row in said.asked if row["task"] == task]


def label_records(said: Said, job: str, task: str) -> list[dict[str, Any]]:
    """Every state of every answer, as they happened; `stands` of those that count."""
    own = [label for label in said.labels if label.task == task]
    after = {label.supersedes: label.label_id for label in own if label.supersedes is not None}
    live = said.live(job, task)
    standing = set() if live is None else {label.label_id for label in live.labels}
    return [_label(label, after.get(label.label_id), stands=label.label_id in standing) for label in own]


def consensus_record(said: Said, job: str, task: str) -> dict[str, Any] | None:
    """The consensus that stands; `formed_of_present` says whether it is of the answers that stand now."""
    row, live = said.consensus.get(task), said.live(job, task)
    if row is None:
        return None
    return {
        "consensus_id": row.consensus_id,
        "state": row.state,
        "answer": shortened(json.loads(row.answer)),
        "posterior": row.posterior,
        "people_answer": shortened(json.loads(row.people_answer)),
        "people_posterior": row.people_posterior,
        "votes": row.votes,
        "method": row.method,
        "annotators": list(row.annotators),
        "labels": list(row.labels),
        "formed_at": row.formed_at.isoformat(),
        "formed_of_present": live is not None and said.agreed(live, task) is row,
    }


def shortened(value: Any) -> Any:
    """A value without the pixels of its masks."""
    if isinstance(value, dict):
        return {name: shortened(one) for name, one in value.items() if name not in ("rle", "heat_map", "vector")}
    return [shortened(one) for one in value] if isinstance(value, list) else value


def _asked(said: Said, row: Mapping[str, Any]) -> dict[str, Any]:
    known = said.known.get(row["dedupe_key"])
    has_place = known is not None and known.project_id is not None and known.ls_task_id is not None
    link = f"{said.server}/projects/{known.project_id}/data?task={known.ls_task_id}" if known and has_place else None
    return {
        "purpose": row["route"],
        "reason": row["reason"],
        "round": row["round"],
        "run_id": row["run_id"],
        "version": row["version"],
        "dedupe_key": row["dedupe_key"],
        "state": None if known is None else str(known.state),
        "project_id": None if known is None else known.project_id,
        "ls_task_id": None if known is None else known.ls_task_id,
        "link": link if said.server is not None else None,
    }


def _label(label: Label, superseded_by: str | None, *, stands: bool) -> dict[str, Any]:
    return {
        "label_id": label.label_id,
        "event": label.event,
        "annotator": label.annotator,
        "created_at": None if label.created_at is None else label.created_at.isoformat(),
        "updated_at": None if label.updated_at is None else label.updated_at.isoformat(),
        "purpose": label.purpose,
        "version": label.version,
        "dedupe_key": label.dedupe_key,
        "was_cancelled": label.was_cancelled,
        "lead_time_s": label.lead_time_s,
        "value": None if label.value is None else shortened(json.loads(label.value)),
        "comment": label.comment,
        "config_hash": label.config_hash,
        "model": label.model,
        "shown": None if label.shown is None else shown_record(json.loads(label.shown)),
        "supersedes": label.supersedes,
        "superseded_by": superseded_by,
        "stands": stands,
    }


def shown_record(shown: dict[str, Any]) -> dict[str, Any]:
    """A prediction as somebody saw it: its value is JSON in JSON."""
    value = shown.get("value")
    return shown | {"value": shortened(json.loads(value)) if isinstance(value, str) else value}
