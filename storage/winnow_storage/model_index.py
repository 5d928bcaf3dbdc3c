"""What does the ledger say of a model registry? An index of its objects, written after them and rebuilt from them."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from winnow_storage import ids
from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.ledger import Ledger
from winnow_storage.records import ModelRow, ModelStageRow
from winnow_storage.registry import ModelEntry, Registry
from winnow_storage.stages import StageEvent

Row = ModelRow | ModelStageRow
Key = tuple[str, str]  # a model's name, and a version of it or `stages/NUMBER`


def index_models(registry: Registry, ledger: Ledger, names: Collection[str] | None = None) -> tuple[str, ...]:
    """Let the ledger say what the registry says of these models, of all by default; which entries differed.

    What cannot be read in the registry stays in the ledger as it is. Entries are NAME@VERSION and NAME@stages/NUMBER.

    Raises:
        LedgerError: the ledger fails; the same call goes on where it stopped.
        StoreError: the store cannot be reached or refuses.
    """
    # the ledger first: what somebody adds to the registry and notes in the ledger meanwhile is not taken for gone
    rows: list[Row] = [*ledger.models(registry.uri), *ledger.model_stages(registry.uri)]
    known = {_key(row): row for row in rows if names is None or row.name in names}
    there: dict[Key, Row] = {}
    for name in {*registry.names(), *(row.name for row in known.values())} if names is None else names:
        for key, row in _rows(registry, name):
            kept = known.get(key) if row is None else row
            if kept is not None:
                there[key] = kept
        there |= _stage_rows(registry, name, known)
    differing = {key for key in {*known, *there} if known.get(key) != there.get(key)}
    if differing:
        gone = [known[key] for key in differing - there.keys()]
        ledger.index_models([there[key] for key in differing & there.keys()], gone=gone)
    return tuple(f"{name}@{part}" for name, part in sorted(differing))


def _rows(registry: Registry, name: str) -> Iterator[tuple[Key, ModelRow | None]]:
    """The versions of a model; None is one whose card is damaged. One that has no card is not there."""
    for version in registry.versions(name):
        try:
            yield (name, version), _model_row(registry.uri, registry.entry(name, version))
        except BlobMissing:
            continue
        except StoreError:
            yield (name, version), None


def _stage_rows(registry: Registry, name: str, known: dict[Key, Row]) -> dict[Key, Row]:
    try:
        rows = [_stage_row(registry.uri, name, event) for event in registry.history(name)]
    except StoreError:
        return {key: row for key, row in known.items() if row.name == name and isinstance(row, ModelStageRow)}
    return {_key(row): row for row in rows}


def _key(row: Row) -> Key:
    return row.name, row.version if isinstance(row, ModelRow) else f"stages/{row.number}"


def _model_row(registry: str, entry: ModelEntry) -> ModelRow:
    card = entry.card
    labels = card.get("labels")
    return ModelRow(
        registry=registry,
        name=entry.name,
        version=entry.version,
        uri=entry.uri,
        sha256=entry.sha256,
        bytes=entry.bytes,
        kind=_text(card.get("kind")),
        architecture=_text(card.get("architecture")),
        licence=_text(card.get("licence")),
        parent=_text(card.get("parent")),
        labels=len(labels) if isinstance(labels, list | tuple) else None,
        added_at=_instant(entry.added_at, f"{entry.name}@{entry.version}"),
        card=ids.canonical_json(card),
    )


def _stage_row(registry: str, name: str, event: StageEvent) -> ModelStageRow:
    return ModelStageRow(
        registry=registry,
        name=name,
        number=event.number,
        stage=event.stage,
        version=event.version,
        action=event.action,
        moved_by=event.by,
        why=event.why,
        at=_instant(event.at, f"{name}@stages/{event.number}"),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _instant(text: str, place: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise StoreError(f"{place}: {text!r} in the registry is no time with its zone", hint="restore the object")
    return found
