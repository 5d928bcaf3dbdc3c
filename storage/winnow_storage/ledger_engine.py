"""How is the ledger's database opened? By URL, migrated to the newest schema, every failure in plain words."""

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    column,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    table,
    text,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from winnow_storage.errors import LedgerError
from winnow_storage.ledger_tables import SCHEMA, VERSION_TABLE

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_WAIT_S = 30  # how long a writer waits for another one
CONNECT_WAIT_S = 10
MIGRATION_LOCK = 0x57494E4E4F57  # "WINNOW", among the advisory locks of a Postgres database

_URL_HINT = "write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE (the spec's ledger, or WINNOW_LEDGER)"
_HINTS = (  # the first that has a word in the database's own message
    (("password", "authentication"), "check the user and the password in the ledger's URL"),
    (("does not exist", "permission denied for"), "let an administrator create it: createdb --owner USER DATABASE"),
    (
        ("refused", "timeout expired", "connection failed", "connection attempts", "resolve host", "closed the conn"),
        "check that the database server runs and that the ledger's URL names its host and port",
    ),
    (("locked", "lock timeout", "deadlock"), "another process holds the ledger: wait for it, then repeat the command"),
    (("is full", "no space"), "free some space where the ledger is kept, then repeat the command"),
    (("readonly", "read-only", "unable to open"), "make the file and its folder writable, or set WINNOW_LEDGER"),
    (("not a database", "malformed"), "move the file away and repeat the command: the bucket holds what is true"),
    (("already exists",), "give Winnow a database of its own: another program's tables are in this one"),
)


def default_ledger_url(environ: Mapping[str, str]) -> str:
    """$WINNOW_LEDGER, or a SQLite file in the user's data folder ($XDG_DATA_HOME/winnow)."""
    if environ.get("WINNOW_LEDGER"):
        return environ["WINNOW_LEDGER"]
    home = Path(environ.get("HOME") or Path.home())
    base = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return URL.create("sqlite", database=str(base / "winnow" / "ledger.db")).render_as_string()


def open_engine(url: str) -> Engine:
    """An engine on a database that has the newest schema.

    Raises:
        LedgerError: not a URL we take, unreachable, wrong password, read-only, full, or written by a newer Winnow.
    """
    place = _parse(url)
    with speaking(place):
        engine = _sqlite(place) if place.get_backend_name() == "sqlite" else _postgres(place)
        with ExitStack() as undo:
            undo.callback(engine.dispose)  # no connection stays open where the migration fails
            _migrate(engine)
            undo.pop_all()
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: it sees one state of the database and keeps no writer waiting."""
    with speaking(engine.url), engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, first: Table | None = None) -> Iterator[Connection]:
    """A transaction that writes, to `first` first of all: the writers of a table take turns, readers go on.

    Turns make ids follow the order of the commits, and two writers of the same rows can never wait for each other.
    """
    with speaking(engine.url), engine.execution_options(winnow_writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'"))
            if first is not None:
                connection.execute(text(f"LOCK TABLE {first.name} IN SHARE ROW EXCLUSIVE MODE"))
        yield connection


@contextmanager
def speaking(place: URL) -> Iterator[None]:
    """Turn what SQLAlchemy raises inside into a LedgerError that names the database, never its password."""
    try:
        yield
    except (SQLAlchemyError, UnicodeError) as error:  # the drivers refuse text that is no UTF-8 with a UnicodeError
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise LedgerError(f"the ledger {_shown(place)}: {reason}", hint=_hint(reason)) from error


def _hint(reason: str) -> str:
    words = reason.lower()
    fitting = (hint for signs, hint in _HINTS if any(sign in words for sign in signs))
    return next(fitting, "check the ledger's URL (the spec's ledger, or WINNOW_LEDGER), then: winnow doctor SPEC")


def _shown(place: URL) -> str:
    # a password may also stand in the query
    return place.set(query={}).render_as_string(hide_password=True)


def _parse(url: str) -> URL:
    scheme = url.partition("://")[0] if "://" in url else ""
    try:
        place = make_url(url)
    except (ArgumentError, ValueError):
        # neither the text nor its parser's message is repeated: they may hold a password
        raise LedgerError("the ledger's URL cannot be read", hint=_URL_HINT) from None
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return place.set(drivername="postgresql+psycopg")
    if scheme != "sqlite":
        raise LedgerError(f"a ledger cannot be kept in {scheme!r}", hint=_URL_HINT)
    if place.query or not place.database or place.database.startswith((":memory:", "file:")):
        raise LedgerError(f"the ledger's URL {_shown(place)} names no plain file", hint=_URL_HINT)
    return place.set(database=os.path.abspath(Path(place.database).expanduser()))  # noqa: PTH100 (keeps links)


def _postgres(place: URL) -> Engine:
    wait = {} if "connect_timeout" in place.query else {"connect_timeout": CONNECT_WAIT_S}
    return create_engine(place, pool_pre_ping=True, connect_args=wait)


def _sqlite(place: URL) -> Engine:
    folder = Path(str(place.database)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"the ledger's folder {folder} cannot be made: {error.strerror}", hint="set WINNOW_LEDGER to another file"
        ) from error
    engine = create_engine(place, pool_pre_ping=True)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001 (SQLAlchemy calls it)
    connection.isolation_level = None  # the driver must not begin transactions by itself: `_begin` does
    connection.execute(f"PRAGMA busy_timeout = {LOCK_WAIT_S * 1000}")
    _use_wal(connection)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Readers and a writer at once. SQLite does not wait for its lock here, so two first openers take turns."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin(connection: Connection) -> None:
    # a writer takes its lock at the start: two readers that both turn writers could not wait for each other
    writes = connection.get_execution_options().get("winnow_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    with reading(engine) as connection:
        current = _schema_of(connection)
    if current == SCHEMA:
        return
    from alembic import command  # costs half a second: for the first opener only
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise LedgerError(
            f"the ledger {_shown(engine.url)} has the schema {current}, and this Winnow knows up to {SCHEMA}",
            hint="a newer Winnow wrote it: install that one, or set WINNOW_LEDGER to another database",
        )
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, SCHEMA)  # does nothing if another process was faster


def _schema_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()
