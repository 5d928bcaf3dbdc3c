"""How do people's answers come back, none lost and none counted twice? A cursor with overlap, and append-only events.

Events are put into the bucket before they count, then into the ledger together with the cursor. A crash in between
leaves the events in the bucket, and the next pull writes them again with the same `label_id`: readers of
`labels/*.parquet` take rows distinct by it.

What the cursor cannot show is found by counting, in one short request: tasks that were deleted, with their answers, and
answers whose tasks say nothing of a change.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_annotation.events import Origin, events_of, events_of_gone, live_after
from winnow_annotation.label_studio import LabelStudioClient
from winnow_annotation.label_studio_records import Standing
from winnow_annotation.labelling_config import config_hash
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import LabelStudioError
from winnow_storage.ids import digest_value
from winnow_storage.ledger import Ledger
from winnow_storage.records import Label, LabelStudioProject
from winnow_storage.schemas import LABELS

# Transactions become visible later than the times they carry; reading a little of the past again costs nothing.
_OVERLAP = timedelta(seconds=120)
_TURNS = 5


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
    for project in {one.project_id: one for one in projects if one is not None}.values():  # tasks may share one
        summary += _pull_project(client, ledger, output, project)
    return summary


def _pull_project(
    client: LabelStudioClient, ledger: Ledger, output: BlobStore, project: LabelStudioProject
) -> PullSummary:
    for _ in range(_TURNS):
        found = _pull_once(client, ledger, output, project)
        if found is not None:
            return found
    raise LabelStudioError(
        f"other pulls of project {project.project_id} were faster, {_TURNS} times",
        hint="one winnow listen, or one pull at a time, is enough",
    )


def _pull_once(
    client: LabelStudioClient, ledger: Ledger, output: BlobStore, project: LabelStudioProject
) -> PullSummary | None:
    """None if another pull was faster: what was read may be older than what that one wrote."""
    cursor = f"pull {client.url} {project.project_id}"
    served = client.project(project.project_id)
    if served is None:
        raise LabelStudioError(
            f"project {project.project_id} of task {project.task!r} is not in Label Studio at {client.url} any more",
            hint="winnow push makes a new one; labels that were pulled before are kept",
        )
    origin = Origin(client.url, project.project_id, config_hash(served.config), client.emails())
    place = (client.url, project.project_id)
    following = (*place, ledger.newest_event(*place))
    seen = ledger.live_annotations(*place)
    sent = ledger.pushed_ids(output.root.uri, project.project_id)
    # taken before the tasks are read, so that what changes meanwhile is read again next time
    before = _state(client, project.project_id)
    since = _since(ledger.cursor(cursor))
    found = _read(client, seen, set(sent.values()), origin, before, since)
    marker = _whole_again(client, ledger, found, origin, before)
    if marker is not None and since is not None:
        found = _read(client, seen, set(sent.values()), origin, before, None)
    if ledger.newest_event(*place) != following[2]:
        return None
    if found.events:
        _put(found.events, output)
    moved = None if before.updated is None else (cursor, before.updated.isoformat())
    if ledger.append_labels(found.events, cursor=moved, following=following) is None:
        return None
    if found.gone:
        _note_gone(client, ledger, {key for key, task in sent.items() if task in found.gone}, project.project_id)
    if marker is not None:
        ledger.append_labels([], cursor=marker)
    kinds = [event.event for event in found.events]
    return PullSummary(kinds.count("created"), kinds.count("updated"), kinds.count("deleted"), found.tasks)


@dataclass(frozen=True, slots=True)
class _State:
    """What a project has, and when a task of it last changed, by the server's clock."""

    standing: Standing
    updated: datetime | None


@dataclass(frozen=True, slots=True)
class _Found:
    """What happened since, what stands after that, how many tasks were read for it, and which are gone."""

    events: list[Label]
    live: Mapping[str, Label]
    tasks: int
    gone: set[int]


def _state(client: LabelStudioClient, project_id: int) -> _State:
    return _State(client.standing(project_id), client.last_update(project_id))


def _read(
    client: LabelStudioClient,
    seen: Mapping[str, Label],
    sent: set[int],
    origin: Origin,
    before: _State,
    since: datetime | None,
) -> _Found:
    events: list[Label] = []
    tasks = 0
    for task in client.changed_tasks(origin.project_id, since):
        tasks += 1
        events += events_of(task, seen, origin)
    live = live_after(events, seen)
    known = sent | {label.ls_task_id for label in live.values()}
    # as many as are known, and nothing is looked for; a task that is gone for another one is found by a later pull
    gone = set() if len(known) == before.standing.tasks else known - client.task_ids(origin.project_id)
    of_gone = events_of_gone(gone, live, origin, before.updated)
    return _Found([*events, *of_gone], live_after(of_gone, live), tasks, gone)


def _whole_again(
    client: LabelStudioClient, ledger: Ledger, found: _Found, origin: Origin, before: _State
) -> tuple[str, str] | None:
    """A cursor to move, if every task is to be read: the server has other answers than those that are known now.

    So are changes found that move no task's time, or move it back: deleting answers in the Data Manager writes the
    server's local time. Not while people work, and once for a state of the project: counters may be wrong for good.
    """
    answers = sum(not label.was_cancelled for label in found.live.values())
    if answers == before.standing.answers:
        return None
    name, value = f"whole {origin.url} {origin.project_id}", f"{before.updated} {before.standing}"
    if ledger.cursor(name) == value or _state(client, origin.project_id) != before:
        return None
    return name, value


def _note_gone(client: LabelStudioClient, ledger: Ledger, keys: set[str], project_id: int) -> None:
    copies = client.find_tasks(project_id, keys)
    ledger.mark_pushed({key: tasks[0].id for key, tasks in copies.items()}, project_id)
    ledger.mark_deleted([key for key in keys if key not in copies])


def _since(cursor: str | None) -> datetime | None:
    return None if cursor is None else datetime.fromisoformat(cursor) - _OVERLAP


def _put(events: Sequence[Label], output: BlobStore) -> None:
    """One object, named by the events in it: the same events again are the same object."""
    buffer = io.BytesIO()
    table = pa.Table.from_pylist([asdict(event) for event in events], schema=LABELS)
    pq.write_table(table, buffer, compression="zstd")
    name = digest_value(sorted(event.label_id for event in events))[:32]
    output.put_if_absent(f"labels/{name}.parquet", buffer.getvalue())
