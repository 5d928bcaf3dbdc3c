"""Which tables does the ledger have? SQLAlchemy Core, one for each kind of record, the same on SQLite and Postgres."""

from datetime import UTC, datetime

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Float, Index, Integer, MetaData, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

SCHEMA = "0004"  # the migration that makes what stands below
VERSION_TABLE = "winnow_schema"  # not Alembic's own name, which another program in the same database may use


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: stored in UTC and given back with its time zone, also by SQLite, which knows none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """To the database. A time without zone is refused: nobody can say which instant it is."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite counts up by itself only in a column that is INTEGER and nothing else
_Id = BigInteger().with_variant(Integer, "sqlite")

RUNS = Table(
    "runs",
    METADATA,
    Column("output", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("job", Text, nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("summary", Text),
)

# Attempts at shards that began and of which no end is known: what is left here was cut off.
SHARD_ATTEMPTS = Table(
    "shard_attempts",
    METADATA,
    Column("output", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("attempts", Integer, nullable=False),
)

REVIEW_TASKS = Table(
    "review_tasks",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("dedupe_key", Text, nullable=False, unique=True),
    Column("output", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("operator", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("project_id", BigInteger),
    Column("ls_task_id", BigInteger),
    Column("fence", BigInteger),
    Index(None, "output", "task", "state"),
)

PROJECTS = Table(
    "label_studio_projects",
    METADATA,
    Column("url", Text, primary_key=True),
    Column("job", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("project_id", BigInteger, nullable=False),
    Column("config_hash", Text, nullable=False),
)

LABELS = Table(
    "labels",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("label_id", Text, nullable=False, unique=True),
    Column("event", Text, nullable=False),
    Column("dedupe_key", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("operator", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("annotation_id", Text, nullable=False),
    Column("project_id", BigInteger, nullable=False),
    Column("ls_task_id", BigInteger, nullable=False),
    Column("annotator", Text),
    Column("created_at", UtcDateTime),
    Column("updated_at", UtcDateTime),
    Column("was_cancelled", Boolean, nullable=False),
    Column("lead_time_s", Float),
    Column("value", Text),
    Column("raw", Text),
    Column("config_hash", Text),
    Column("model", Text),
    Column("shown", Text),
    Column("comment", Text),
    Column("supersedes", Text),
    Index(None, "job", "task"),
    Index(None, "server", "project_id", "annotation_id"),
)

# An index of the model registry, whose objects are the truth: written after them, and rebuilt from them.
MODELS = Table(
    "models",
    METADATA,
    Column("registry", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("uri", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("kind", Text),
    Column("architecture", Text),
    Column("licence", Text),
    Column("parent", Text),
    Column("labels", Integer),
    Column("added_at", UtcDateTime, nullable=False),
    Column("card", Text, nullable=False),
)

MODEL_STAGES = Table(
    "model_stages",
    METADATA,
    Column("registry", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("stage", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("moved_by", Text),
    Column("why", Text),
    Column("at", UtcDateTime, nullable=False),
)

CURSORS = Table(
    "cursors",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
