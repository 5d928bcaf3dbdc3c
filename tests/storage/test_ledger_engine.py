"""Is every database that cannot be a ledger refused in words that help, and without its password?"""

import socket
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event, text

from tests.servers.postgres import PostgresServer
from winnow_storage.errors import LedgerError
from winnow_storage.ledger import Ledger, default_ledger_url, open_ledger
from winnow_storage.records import RunRecord

SECRET = "5ecret-pass"
RUN = RunRecord("o", "0001", "job", "open", "d", datetime(2026, 1, 1, tzinfo=UTC))


def refusal(url: str) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        open_ledger(url)
    return caught.value


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"WINNOW_LEDGER": "postgresql://h/d", "HOME": "/h"}, "postgresql://h/d"),
        ({"WINNOW_LEDGER": "", "HOME": "/h"}, "sqlite:////h/.local/share/winnow/ledger.db"),
        ({"XDG_DATA_HOME": "/x", "HOME": "/h"}, "sqlite:////x/winnow/ledger.db"),
    ],
)
def test_default_ledger_url__from_the_environment(environ: dict[str, str], url: str) -> None:
    assert default_ledger_url(environ) == url


def test_default_ledger_url__any_folder_name_survives(tmp_path: Path) -> None:
    home = tmp_path / "ü b?c#d%20e"
    with open_ledger(default_ledger_url({"HOME": str(home)})) as ledger:
        ledger.record_run(RUN)
    assert (home / ".local/share/winnow/ledger.db").is_file()


def test_open__a_relative_file_stays_where_it_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_ledger("sqlite:///ledger.db") as ledger:
        monkeypatch.chdir("/")
        ledger.record_run(RUN)
    assert (tmp_path / "ledger.db").is_file()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"postgresql//u:{SECRET}@host/db", "the ledger's URL cannot be read"),
        (f"postgresql://u:pass@host:{SECRET}/db", "the ledger's URL cannot be read"),
        ("ledger.db", "the ledger's URL cannot be read"),
        ("", "the ledger's URL cannot be read"),
        (f"mysql://u:{SECRET}@host/db", "a ledger cannot be kept in 'mysql'"),
        (f"postgresql+psycopg2://u:{SECRET}@host/db", "a ledger cannot be kept in 'postgresql+psycopg2'"),
        ("sqlite://", "the ledger's URL sqlite:// names no plain file"),
        ("sqlite:///:memory:", "the ledger's URL sqlite:///%3Amemory%3A names no plain file"),
        (f"sqlite:///x.db?key={SECRET}", "the ledger's URL sqlite:///x.db names no plain file"),
    ],
)
def test_open__a_url_that_names_no_ledger(url: str, message: str) -> None:
    error = refusal(url)
    assert error.message == message
    assert str(error.hint).startswith("write sqlite:///FILE or postgresql://")
    assert error.__cause__ is None  # --debug shows causes, and the parsers' messages repeat what they read


def test_open__wrong_password(postgres: PostgresServer) -> None:
    error = refusal(postgres.url("postgres", password=SECRET))
    assert "password authentication failed" in error.message
    assert error.message.startswith(f"the ledger postgresql+psycopg://winnow:***@127.0.0.1:{postgres.port}/postgres: ")
    assert error.hint == "check the user and the password in the ledger's URL"
    assert SECRET not in f"{error}{error.__cause__}"


def test_open__a_password_in_the_query_is_not_shown(postgres: PostgresServer) -> None:
    error = refusal(f"postgresql://127.0.0.1:{postgres.port}/postgres?user=winnow&password={SECRET}")
    assert "password authentication failed" in error.message
    assert SECRET not in f"{error}{error.__cause__}"


def test_open__no_such_database(postgres: PostgresServer) -> None:
    error = refusal(postgres.url("nowhere"))
    assert 'database "nowhere" does not exist' in error.message
    assert "createdb" in str(error.hint)


def test_open__through_the_unix_socket(postgres: PostgresServer) -> None:
    name = postgres.create_database()
    url = f"postgresql://winnow:{postgres.password}@/{name}?host={postgres.socket_folder}&port={postgres.port}"
    with open_ledger(url) as ledger:
        assert ledger.runs() == []


def test_open__nobody_listens() -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        error = refusal(f"postgresql://u:{SECRET}@127.0.0.1:{taken.getsockname()[1]}/db")
    assert "onnection refused" in error.message
    assert "check that the database server runs" in str(error.hint)
    assert SECRET not in str(error)


def test_open__a_read_only_postgres_can_be_read(postgres: PostgresServer) -> None:
    name = postgres.create_database()
    with open_ledger(postgres.url(name)) as ledger:
        ledger.record_run(RUN)
        with ledger._engine.begin() as connection:
            connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    with open_ledger(postgres.url(name)) as ledger:
        assert ledger.runs() == [RUN]
        with pytest.raises(LedgerError, match="read-only transaction") as caught:
            ledger.record_run(RUN)
    assert "writable" in str(caught.value.hint)


def test_ledger__goes_on_after_the_server_cut_its_connections(postgres: PostgresServer) -> None:
    with open_ledger(postgres.url(postgres.create_database())) as ledger:
        assert ledger.runs() == []
        with psycopg.connect(postgres.url("postgres")) as administrator:
            administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            )
        assert ledger.runs() == []


def test_open__a_folder_is_no_file(tmp_path: Path) -> None:
    error = refusal(f"sqlite:///{tmp_path}")
    assert error.message == f"the ledger sqlite:///{tmp_path}: unable to open database file"
    assert "writable" in str(error.hint)


def test_open__a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = refusal(f"sqlite:///{tmp_path}/file/sub/ledger.db")
    assert error.message == f"the ledger's folder {tmp_path}/file/sub cannot be made: Not a directory"


def test_open__another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"a JPEG, say" * 1000)
    error = refusal(f"sqlite:///{tmp_path}/ledger.db")
    assert "file is not a database" in error.message
    assert "move the file away" in str(error.hint)


@pytest.fixture
def file_ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        yield ledger


def limit(ledger: Ledger, pragma: str) -> None:
    """Set a limit of SQLite itself on every connection from now on."""

    def apply(connection: sqlite3.Connection, record: object) -> None:
        connection.execute(pragma)

    ledger._engine.dispose()
    event.listen(ledger._engine, "connect", apply)


def test_write__full_disk(file_ledger: Ledger) -> None:
    file_ledger.record_run(RUN)
    limit(file_ledger, "PRAGMA max_page_count = 1")  # SQLite takes the pages that there are already
    with pytest.raises(LedgerError, match="database or disk is full") as caught:
        file_ledger.record_run(replace(RUN, run_id="0002", summary="x" * 100_000))
    assert "free some space" in str(caught.value.hint)
    assert file_ledger.runs() == [RUN]  # what was committed before stays, and can be read


def test_write__read_only_file(file_ledger: Ledger) -> None:
    limit(file_ledger, "PRAGMA query_only = ON")
    with pytest.raises(LedgerError, match="readonly database") as caught:
        file_ledger.record_run(RUN)
    assert "writable" in str(caught.value.hint)
    assert file_ledger.runs() == []


def test_open__waits_for_a_first_opener_that_is_still_writing(tmp_path: Path) -> None:
    """SQLite's own waiting does not cover the switch to a write-ahead log."""
    first = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
    first.execute("CREATE TABLE other (x)")
    first.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: first.execute("COMMIT"))
    timer.start()
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        ledger.record_run(RUN)
        assert ledger.runs() == [RUN]
    timer.join()
    first.close()
