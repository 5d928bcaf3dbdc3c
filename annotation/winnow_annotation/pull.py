"""How do people's answers come back, none lost and none counted twice? A cursor with overlap, and append-only events.

Events are put into the bucket before they count, then into the ledger together with the cursor. A crash in between
leaves the events in the bucket, and the next pull writes them again with the same `label_id`: readers of
`labels/*.parquet` take rows distinct by it.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_annotation.events import Origin, events_of
from winnow_annotation.label_studio import LabelStudioClient
from winnow_annotation.labelling_config import config_hash
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import LabelStudioError
from winnow_storage.ids import digest_value
from winnow_storage.ledger import Ledger
from winnow_storage.records import Label, LabelStudioProject
from winnow_storage.schemas import LABELS

# Transactions become visible later than the times they carry; reading a little of the past again costs nothing.
_OVERLAP = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class PullSummary:
    """Answers that are new, changed and gone since the last pull, and how many tasks were read for that."""

    new: int = 0
    changed: int = 0
    gone: int = 0
    tasks: int = 0

    def __add__(self, other: "PullSummary") -> "PullSummary":
        return PullSummary(
            self.new + other.new, self.changed + other.changed, self.gone + other.gone, self.tasks + other.tasks
        )


def pull(
    client: LabelStudioClient, ledger: Ledger, output: BlobStore, *, job: str, tasks: Sequence[str]
) -> PullSummary:
    """Bring what changed in the projects of the job's tasks into `labels/` below `output` and into the ledger.

    Raises:
        LabelStudioError: unreachable or refusing, or a project is gone; what was pulled before stays.
        StoreError, LedgerError: as their rooms say.
    """
    projects = [ledger.project(client.url, job, task) for task in tasks]
    summary = PullSummary()
    for project in projects:
        if project is not None:
            summary += _pull_project(client, ledger, output, project)
    return summary


def _pull_project(
    client: LabelStudioClient, ledger: Ledger, output: BlobStore, project: LabelStudioProject
) -> PullSummary:
    cursor = f"pull {client.url} {project.project_id}"
    served = client.project(project.project_id)
    if served is None:
        raise LabelStudioError(
            f"project {project.project_id} of task {project.task!r} is not in Label Studio at {client.url} any more",
            hint="winnow push makes a new one; labels that were pulled before are kept",
        )
    # taken before the tasks are read, so that what changes meanwhile is read again next time
    newest = client.last_update(project.project_id)
    if newest is None:
        return PullSummary()
    origin = Origin(client.url, project.project_id, config_hash(served.config), client.emails())
    seen = ledger.live_annotations(client.url, project.project_id)
    events: list[Label] = []
    count = 0
    for task in client.changed_tasks(project.project_id, _since(ledger.cursor(cursor))):
        count += 1
        events += events_of(task, seen, origin)
    if events:
        _put(events, output)
    ledger.append_labels(events, cursor=(cursor, newest.isoformat()))
    kinds = [event.event for event in events]
    return PullSummary(kinds.count("created"), kinds.count("updated"), kinds.count("deleted"), count)


def _since(cursor: str | None) -> datetime | None:
    return None if cursor is None else datetime.fromisoformat(cursor) - _OVERLAP


def _put(events: Sequence[Label], output: BlobStore) -> None:
    """One object, named by the events in it: the same events again are the same object."""
    buffer = io.BytesIO()
    table = pa.Table.from_pylist([asdict(event) for event in events], schema=LABELS)
    pq.write_table(table, buffer, compression="zstd")
    name = digest_value(sorted(event.label_id for event in events))[:32]
    output.put_if_absent(f"labels/{name}.parquet", buffer.getvalue())
