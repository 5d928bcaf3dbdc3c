"""Which answers of people does a bucket hold? The events below `labels/`, each once, in the order of their times."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_jobs.verify.findings import Finding
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.ids import digest_value
from winnow_storage.parquet_rows import find_below
from winnow_storage.records import Label
from winnow_storage.schemas import LABELS

PREFIX = "labels/"
DAMAGED = "the object was cut off, damaged or replaced after the pull that wrote it"
RESTORE = "restore it from a backup; else remove it, and winnow pull reads the answers from Label Studio again"
_ORDER = {"created": 0, "updated": 1, "deleted": 2}
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def read_labels(store: BlobStore) -> tuple[list[Label], list[Finding]]:
    """Every event, those of one annotation as they happened, and the objects that hold none.

    Raises:
        StoreError: the store does not answer.
    """
    labels: dict[str, Label] = {}
    findings: list[Finding] = []
    for info in store.walk(PREFIX):
        if not info.key.endswith(".parquet"):
            continue
        try:
            events = list(_events(store, info))
        except (pa.ArrowException, OSError, KeyError) as error:
            findings.append(Finding(info.key, f"it cannot be read: {error}", DAMAGED, RESTORE))
            continue
        named = digest_value(sorted(event.label_id for event in events))[:32]
        if info.key != f"{PREFIX}{named}.parquet":
            findings.append(Finding(info.key, "its events are not those that its name is made of", DAMAGED, RESTORE))
        labels |= {event.label_id: event for event in events}
    return sorted(labels.values(), key=_when), findings


def labels_of_item(store: BlobStore, item_id: str) -> list[Label]:
    """The events of one item, as they happened; of all others only the ids are read.

    Raises:
        StoreError: as the store says, or an object of labels is damaged.
    """
    found: dict[str, Label] = {}
    for row in find_below(store, PREFIX, "item_id", item_id):
        values: dict[str, Any] = {field.name: row.get(field.name) for field in LABELS}  # older ones have fewer columns
        found[row["label_id"]] = Label(**values)
    return sorted(found.values(), key=_when)


def _events(store: BlobStore, info: BlobInfo) -> Iterator[Label]:
    table = pq.read_table(pa.BufferReader(store.get(info.key)), use_threads=False)
    table.validate(full=True)
    for field in LABELS:
        if field.nullable and field.name not in table.column_names:  # an older version knew no such column
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    for row in table.select(LABELS.names).cast(LABELS).to_pylist():
        yield Label(**row)


def _when(label: Label) -> tuple[datetime, int, str]:
    return label.updated_at or label.created_at or _LONG_AGO, _ORDER.get(label.event, 0), label.label_id
