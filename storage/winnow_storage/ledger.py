"""What does the ledger remember? Runs, review tasks, labels and cursors, in few transactions, on SQLite or Postgres."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, Select, Table, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from winnow_storage.ledger_engine import default_ledger_url, open_engine, reading, writing
from winnow_storage.ledger_tables import (
    CURSORS,
    LABELS,
    MODEL_STAGES,
    MODELS,
    PROJECTS,
    REVIEW_TASKS,
    RUNS,
    SHARD_ATTEMPTS,
)
from winnow_storage.records import (
    Label,
    LabelStudioProject,
    ModelRow,
    ModelStageRow,
    PushState,
    ReviewTask,
    RunRecord,
)

__all__ = ["Ledger", "default_ledger_url", "open_ledger"]

_CHUNK = 1000  # rows or keys of one statement; SQLite takes 32,766 parameters

_TASK_FIELDS = tuple(field.name for field in fields(ReviewTask))

RecordT = TypeVar("RecordT", RunRecord, ReviewTask, LabelStudioProject, Label, ModelRow, ModelStageRow)


def open_ledger(url: str) -> "Ledger":
    """The ledger at a URL, migrated to the newest schema; a SQLite file and its folder are made.

    Raises:
        LedgerError: it cannot be opened.
    """
    return Ledger(open_engine(url))


class Ledger:
    """One database. Every method is one transaction, and raises LedgerError if the database fails.

    Threads may share a ledger, and processes a database. Times are UTC.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    def record_run(self, run: RunRecord) -> None:
        """Add a run, or replace what is known of it."""
        with writing(self._engine, RUNS) as connection:
            _upsert(connection, RUNS, asdict(run))

    def runs(self, output: str | None = None, job: str | None = None) -> list[RunRecord]:
        """The runs of an output, a job, or all, by output and run_id."""
        query = select(RUNS).order_by(RUNS.c.output, RUNS.c.run_id)
        if output is not None:
            query = query.where(RUNS.c.output == output)
        if job is not None:
            query = query.where(RUNS.c.job == job)
        return _records(RunRecord, self._rows(query))

    def find_runs(self, run_id: str) -> list[RunRecord]:
        """Every run of that id, over all outputs."""
        return _records(RunRecord, self._rows(select(RUNS).where(RUNS.c.run_id == run_id).order_by(RUNS.c.output)))

    def begin_attempts(self, output: str, run_id: str, shards: Collection[int], *, ended: Collection[int] = ()) -> None:
        """Note that attempts at these shards begin, and that the attempts at the shards `ended` are over."""
        more = {"attempts": SHARD_ATTEMPTS.c.attempts + 1}
        keys = list(SHARD_ATTEMPTS.primary_key)
        with writing(self._engine) as connection:
            _delete_attempts(connection, output, run_id, ended)
            insert = _insert(connection)(SHARD_ATTEMPTS).on_conflict_do_update(index_elements=keys, set_=more)
            for numbers in _chunks(sorted(shards)):
                rows = [{"output": output, "run_id": run_id, "shard": shard, "attempts": 1} for shard in numbers]
                connection.execute(insert, rows)

    def open_attempts(self, output: str, run_id: str) -> dict[int, int]:
        """For every shard of a run with attempts that nobody saw end, how many those are."""
        of_run = (SHARD_ATTEMPTS.c.output == output, SHARD_ATTEMPTS.c.run_id == run_id)
        query = select(SHARD_ATTEMPTS.c.shard, SHARD_ATTEMPTS.c.attempts).where(*of_run)
        return {row["shard"]: row["attempts"] for row in self._rows(query)}

    def end_attempts(self, output: str, run_id: str, shards: Collection[int]) -> None:
        """Note that the attempts at these shards are over."""
        with writing(self._engine) as connection:
            _delete_attempts(connection, output, run_id, shards)

    def add_review_tasks(self, tasks: Sequence[ReviewTask]) -> int:
        """Add those whose dedupe_key is new, in order; how many that were. The others stay as they are."""
        with writing(self._engine, REVIEW_TASKS) as connection:
            return _insert_new(connection, REVIEW_TASKS, [_row_of(task) for task in tasks], key="dedupe_key")

    def review_tasks(
        self, *, output: str, states: Collection[PushState] | None = None, task: str | None = None
    ) -> list[ReviewTask]:
        """The review tasks of an output, in the order in which they were added."""
        query = select(REVIEW_TASKS).where(REVIEW_TASKS.c.output == output).order_by(REVIEW_TASKS.c.id)
        if states is not None:
            query = query.where(REVIEW_TASKS.c.state.in_([state.value for state in states]))
        if task is not None:
            query = query.where(REVIEW_TASKS.c.task == task)
        return [_review_task(row) for row in self._rows(query)]

    def review_tasks_by_key(self, dedupe_keys: Collection[str]) -> dict[str, ReviewTask]:
        """The review tasks with these keys, without the keys that are not known."""
        found: dict[str, ReviewTask] = {}
        with reading(self._engine) as connection:
            for keys in _chunks(list(dedupe_keys)):
                query = select(REVIEW_TASKS).where(REVIEW_TASKS.c.dedupe_key.in_(keys))
                found |= {row["dedupe_key"]: _review_task(row) for row in connection.execute(query).mappings()}
        return found

    def claim(self, dedupe_keys: Collection[str], project_id: int, fence: int) -> set[str]:
        """Take these for an import into a project that is about to leave and rests on `fence`; which were free.

        Not free are those that an import into this project may have taken along, that stand there, or were deleted.
        """
        columns = REVIEW_TASKS.c
        elsewhere = columns.state.in_([PushState.SENDING.value, PushState.PUSHED.value]) & (
            columns.project_id.is_(None) | (columns.project_id != project_id)
        )
        is_free = (columns.state == PushState.PENDING.value) | elsewhere
        values = {"state": PushState.SENDING.value, "project_id": project_id, "ls_task_id": None, "fence": fence}
        claimed: set[str] = set()
        with writing(self._engine, REVIEW_TASKS) as connection:
            for keys in _chunks(list(dedupe_keys)):
                query = select(columns.dedupe_key).where(columns.dedupe_key.in_(keys), is_free)
                free = set(connection.execute(query).scalars())
                connection.execute(update(REVIEW_TASKS).where(columns.dedupe_key.in_(free)).values(values))
                claimed |= free
        return claimed

    def release(self, dedupe_keys: Collection[str], fence: int | None) -> None:
        """Note that the import resting on `fence` did not bring these, and never will; others took them: they stay."""
        columns = REVIEW_TASKS.c
        rests = columns.fence.is_(None) if fence is None else columns.fence == fence
        own = (columns.state == PushState.SENDING.value, rests)
        with writing(self._engine, REVIEW_TASKS) as connection:
            for keys in _chunks(list(dedupe_keys)):
                change = update(REVIEW_TASKS).where(columns.dedupe_key.in_(keys), *own)
                connection.execute(change.values(state=PushState.PENDING.value, fence=None))

    def mark_deleted(self, dedupe_keys: Collection[str]) -> None:
        """Note that people deleted these in Label Studio."""
        with writing(self._engine, REVIEW_TASKS) as connection:
            for keys in _chunks(list(dedupe_keys)):
                change = update(REVIEW_TASKS).where(REVIEW_TASKS.c.dedupe_key.in_(keys))
                connection.execute(change.values(state=PushState.DELETED.value))

    def pushed_ids(self, output: str, project_id: int) -> dict[str, int]:
        """By dedupe_key, the Label Studio tasks of an output that stand in a project, as far as is known."""
        columns = REVIEW_TASKS.c
        there = (columns.output == output, columns.project_id == project_id, columns.state == PushState.PUSHED.value)
        rows = self._rows(select(columns.dedupe_key, columns.ls_task_id).where(*there))
        return {row["dedupe_key"]: int(row["ls_task_id"]) for row in rows}

    def mark_pushed(self, ls_task_ids: Mapping[str, int], project_id: int) -> None:
        """Note which Label Studio task each dedupe_key became."""
        change = (
            update(REVIEW_TASKS)
            .where(REVIEW_TASKS.c.dedupe_key == bindparam("sent_key"))
            .values(state=PushState.PUSHED.value, project_id=project_id, ls_task_id=bindparam("sent_as"), fence=None)
        )
        sent = [{"sent_key": key, "sent_as": ls_task_id} for key, ls_task_id in ls_task_ids.items()]
        with writing(self._engine, REVIEW_TASKS) as connection:
            for chunk in _chunks(sent):
                connection.execute(change, chunk)

    def review_counts(self, output: str) -> dict[str, dict[str, int]]:
        """For each task of an output, how many review tasks are in each state that occurs."""
        columns = (REVIEW_TASKS.c.task, REVIEW_TASKS.c.state)
        query = select(*columns, func.count().label("n")).where(REVIEW_TASKS.c.output == output).group_by(*columns)
        counts: dict[str, dict[str, int]] = {}
        for row in self._rows(query.order_by(*columns)):
            counts.setdefault(row["task"], {})[row["state"]] = row["n"]
        return counts

    def project(self, url: str, job: str, task: str) -> LabelStudioProject | None:
        """The Label Studio project of a task, None if none is known."""
        columns = PROJECTS.c
        query = select(PROJECTS).where(columns.url == url, columns.job == job, columns.task == task)
        return next(iter(_records(LabelStudioProject, self._rows(query))), None)

    def save_project(self, project: LabelStudioProject, *, instead_of: int | None = None) -> LabelStudioProject:
        """Remember the project of a task; the one that stands then.

        That is another one if somebody else was faster: if one is known by now that is neither this nor `instead_of`.
        """
        columns = PROJECTS.c
        own = (columns.url == project.url, columns.job == project.job, columns.task == project.task)
        with writing(self._engine, PROJECTS) as connection:
            rows = connection.execute(select(PROJECTS).where(*own)).mappings().all()
            for standing in _records(LabelStudioProject, rows):
                if standing.project_id not in (project.project_id, instead_of):
                    return standing
            _upsert(connection, PROJECTS, asdict(project))
        return project

    def newest_event(self, server: str, project_id: int) -> int:
        """The number of the newest event of a server's project, which grows with each; 0 before the first."""
        own = (LABELS.c.server == server, LABELS.c.project_id == project_id)
        return int(self._rows(select(func.coalesce(func.max(LABELS.c.id), 0).label("id")).where(*own))[0]["id"])

    def append_labels(
        self,
        labels: Sequence[Label],
        *,
        cursor: tuple[str, str] | None = None,
        following: tuple[str, int, int] | None = None,
    ) -> int | None:
        """Add events whose label_id is new and move the cursor (name, value), both or neither; how many were new.

        `following`: a server, a project of it, and its `newest_event` when what led to these events was read. If there
        is a newer one by now, what was read may be older than that: nothing is done, and None is the answer.
        """
        with writing(self._engine, LABELS) as connection:
            if following is not None:
                own = (LABELS.c.server == following[0], LABELS.c.project_id == following[1])
                newest = connection.execute(select(func.max(LABELS.c.id)).where(*own)).scalar() or 0
                if newest != following[2]:
                    return None
            new = _insert_new(connection, LABELS, [asdict(label) for label in labels], key="label_id")
            if cursor is not None:
                _upsert(connection, CURSORS, {"name": cursor[0], "value": cursor[1]})
        return new

    def labels(self, job: str, task: str | None = None) -> list[Label]:
        """Every event of a job, in the order in which they were added."""
        query = select(LABELS).where(LABELS.c.job == job).order_by(LABELS.c.id)
        if task is not None:
            query = query.where(LABELS.c.task == task)
        return _records(Label, self._rows(query))

    def live_annotations(self, server: str, project_id: int) -> dict[str, Label]:
        """The newest event of every annotation of a server's project that was not deleted, by annotation_id."""
        own = (LABELS.c.server == server, LABELS.c.project_id == project_id)
        newest = select(func.max(LABELS.c.id)).where(*own).group_by(LABELS.c.annotation_id)
        query = select(LABELS).where(LABELS.c.id.in_(newest), LABELS.c.event != "deleted").order_by(LABELS.c.id)
        return {label.annotation_id: label for label in _records(Label, self._rows(query))}

    def label_counts(self, job: str) -> dict[str, int]:
        """For each task of a job, how many answers stand: not deleted, not skipped."""
        newest = (
            select(func.max(LABELS.c.id))
            .where(LABELS.c.job == job)
            .group_by(LABELS.c.server, LABELS.c.project_id, LABELS.c.annotation_id)
        )
        standing = (LABELS.c.id.in_(newest), LABELS.c.event != "deleted", LABELS.c.was_cancelled.is_(False))
        query = select(LABELS.c.task, func.count().label("n")).where(*standing).group_by(LABELS.c.task)
        return {row["task"]: row["n"] for row in self._rows(query.order_by(LABELS.c.task))}

    def models(self, registry: str) -> list[ModelRow]:
        """The versions of models that are known of a registry, by name and version."""
        columns = MODELS.c
        query = select(MODELS).where(columns.registry == registry).order_by(columns.name, columns.version)
        return _records(ModelRow, self._rows(query))

    def model_stages(self, registry: str) -> list[ModelStageRow]:
        """The moves of stages that are known of a registry, by model, oldest first."""
        columns = MODEL_STAGES.c
        query = select(MODEL_STAGES).where(columns.registry == registry).order_by(columns.name, columns.number)
        return _records(ModelStageRow, self._rows(query))

    def index_models(
        self, rows: Collection[ModelRow | ModelStageRow], *, gone: Collection[ModelRow | ModelStageRow] = ()
    ) -> None:
        """Add these entries of registries, or replace those of their keys; those in `gone` are taken out."""
        with writing(self._engine, MODELS) as connection:
            for row in gone:
                table, values = _model_table(row), asdict(row)
                connection.execute(delete(table).where(*(key == values[key.name] for key in table.primary_key)))
            for row in rows:
                _upsert(connection, _model_table(row), asdict(row))

    def cursor(self, name: str) -> str | None:
        """Where a cursor stands, None before it was first moved."""
        rows = self._rows(select(CURSORS.c.value).where(CURSORS.c.name == name))
        return str(rows[0]["value"]) if rows else None

    def _rows(self, query: Select[Any]) -> Sequence[RowMapping]:
        with reading(self._engine) as connection:
            return connection.execute(query).mappings().all()


def _records(kind: type[RecordT], rows: Sequence[RowMapping]) -> list[RecordT]:
    names = [field.name for field in fields(kind)]
    return [kind(**{name: row[name] for name in names}) for row in rows]


def _model_table(row: ModelRow | ModelStageRow) -> Table:
    return MODELS if isinstance(row, ModelRow) else MODEL_STAGES


def _review_task(row: RowMapping) -> ReviewTask:
    values = {field.name: row[field.name] for field in fields(ReviewTask)}
    return ReviewTask(**{**values, "state": PushState(row["state"])})


def _row_of(task: ReviewTask) -> dict[str, Any]:
    values = {name: getattr(task, name) for name in _TASK_FIELDS}  # many, and flat: asdict would copy each value
    return {**values, "state": task.state.value}


def _insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, key: str) -> int:
    """Insert the rows whose `key` is not in the table yet; the caller holds the table, so none can come in between."""
    new = 0
    for chunk in _chunks(rows):
        by_key: dict[str, Mapping[str, Any]] = {}
        for row in chunk:
            by_key.setdefault(row[key], row)
        known = connection.execute(select(table.c[key]).where(table.c[key].in_(list(by_key)))).scalars()
        for found in known:
            del by_key[found]
        if by_key:
            connection.execute(table.insert(), list(by_key.values()))
        new += len(by_key)
    return new


def _upsert(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in row.items() if name not in keys}
    insert = _insert(connection)(table).values(dict(row))
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=rest))


def _delete_attempts(connection: Connection, output: str, run_id: str, shards: Collection[int]) -> None:
    columns = SHARD_ATTEMPTS.c
    for numbers in _chunks(sorted(shards)):
        of_these = (columns.output == output, columns.run_id == run_id, columns.shard.in_(numbers))
        connection.execute(delete(SHARD_ATTEMPTS).where(*of_these))


def _insert(connection: Connection) -> Any:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def _chunks(rows: Sequence[Any]) -> list[Sequence[Any]]:
    return [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
