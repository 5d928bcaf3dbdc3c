"""Does the ledger say what the model registry says, on SQLite and Postgres, whoever writes at the same time?"""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from winnow_storage import blobs, uri
from winnow_storage.ledger import Ledger, open_ledger
from winnow_storage.model_index import index_models
from winnow_storage.registry import Registry

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
CARD = {
    "architecture": "builtin/digit_cnn", "kind": "classify", "labels": ["ä", "b"], "licence": "MIT",
    "metrics": {"accuracy": 0.93}, "parent": "kind@1",
}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    server = request.getfixturevalue("postgres")
    return str(server.url(server.create_database()))


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with open_ledger(url) as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(root: Path, ledger: Ledger) -> Registry:
    return opened(root, ledger)


def opened(root: Path, ledger: Ledger) -> Registry:
    def changed(registry: Registry, name: str) -> None:
        index_models(registry, ledger, [name])

    return Registry(blobs.open_store(uri.parse(str(root))), now=lambda: NOON, changed=changed)


def filled(registry: Registry) -> None:
    registry.add("kind", b"first", CARD)
    registry.add("kind", b"second", {})
    registry.add("other", b"third", {"labels": None, "licence": ["no text"]})
    registry.promote("kind", "1", "prod", by="ann")
    registry.promote("kind", "2", "prod", by="ben", why="better")
    registry.rollback("kind", "prod", why="misses night shots")


def test_index__follows_what_the_registry_is_told(registry: Registry, ledger: Ledger) -> None:
    filled(registry)
    first, second, third = ledger.models(registry.uri)
    entry = registry.resolve("kind@1")
    assert (first.name, first.version, first.sha256, first.bytes) == ("kind", "1", entry.sha256, 5)
    assert (first.uri, first.added_at, json.loads(first.card)) == (entry.uri, NOON, CARD)
    assert (first.kind, first.architecture, first.licence, first.parent, first.labels) == (
        "classify", "builtin/digit_cnn", "MIT", "kind@1", 2,
    )  # fmt: skip
    assert (second.version, second.kind, second.labels) == ("2", None, None)
    assert (third.name, third.labels, third.licence) == ("other", None, None)
    moves = [(row.number, row.version, row.action, row.moved_by, row.why) for row in ledger.model_stages(registry.uri)]
    assert moves == [
        (1, "1", "promote", "ann", None),
        (2, "2", "promote", "ben", "better"),
        (3, "1", "rollback", None, "misses night shots"),
    ]
    assert index_models(registry, ledger) == ()


def test_index__an_empty_ledger_is_filled_again(registry: Registry, ledger: Ledger) -> None:
    filled(registry)
    before = ledger.models(registry.uri), ledger.model_stages(registry.uri)
    with ledger._engine.begin() as connection:
        connection.execute(text("DELETE FROM models"))
        connection.execute(text("DELETE FROM model_stages"))
    moves = tuple(f"kind@stages/{number}" for number in (1, 2, 3))
    assert index_models(registry, ledger) == ("kind@1", "kind@2", *moves, "other@1")
    assert (ledger.models(registry.uri), ledger.model_stages(registry.uri)) == before


def test_index__rows_that_differ_or_have_no_object_are_put_right(
    registry: Registry, ledger: Ledger, root: Path
) -> None:
    filled(registry)
    elsewhere = opened(root.parent / "elsewhere", ledger)
    elsewhere.add("kind", b"first", CARD)
    stages = ledger.model_stages(registry.uri)
    with ledger._engine.begin() as connection:
        connection.execute(text("UPDATE models SET licence = 'GPL' WHERE version = '1' AND name = 'kind'"))
        connection.execute(text("UPDATE model_stages SET name = 'never' WHERE number = 3"))
    (root / "models/other/1/card.json").unlink()
    assert index_models(registry, ledger) == ("kind@1", "kind@stages/3", "never@stages/3", "other@1")
    assert [(row.name, row.version, row.licence) for row in ledger.models(registry.uri)] == [
        ("kind", "1", "MIT"),
        ("kind", "2", None),
    ]
    assert ledger.model_stages(registry.uri) == stages
    assert index_models(elsewhere, ledger) == ("kind@1",)  # of another registry: only its own check sees it


def test_index__what_is_damaged_in_the_registry_stays_as_it_was_known(
    registry: Registry, ledger: Ledger, root: Path
) -> None:
    filled(registry)
    before = ledger.models(registry.uri), ledger.model_stages(registry.uri)
    (root / "models/kind/1/card.json").write_text("{")
    (root / "models/kind/stages/00000002.json").write_text("[]")
    card = root / "models/other/1/card.json"
    card.write_text(card.read_text().replace("2026-03-01T12:00:00.123456+00:00", "noon"))
    assert index_models(registry, ledger) == ()
    assert (ledger.models(registry.uri), ledger.model_stages(registry.uri)) == before


PROMOTER = """
import sys
from winnow_storage import blobs, uri
from winnow_storage.ledger import open_ledger
from winnow_storage.model_index import index_models
from winnow_storage.registry import Registry

root, url, who = sys.argv[1:]
with open_ledger(url) as ledger:
    registry = Registry(
        blobs.open_store(uri.parse(root)), changed=lambda registry, name: index_models(registry, ledger, [name])
    )
    for turn in range(12):
        registry.promote("kind", str(1 + turn % 2), f"of-{who}", by=who)
"""


def test_index__two_processes_promote(registry: Registry, ledger: Ledger, root: Path, url: str) -> None:
    registry.add("kind", b"first", CARD)
    registry.add("kind", b"second", CARD)
    both = [subprocess.Popen([sys.executable, "-c", PROMOTER, root, url, who]) for who in ("ann", "ben")]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    history = [(event.number, event.stage, event.version, event.by) for event in registry.history("kind")]
    assert len(history) == 24
    rows = ledger.model_stages(registry.uri)
    assert [(row.number, row.stage, row.version, row.moved_by) for row in rows] == history
    assert index_models(registry, ledger) == ()
