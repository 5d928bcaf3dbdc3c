"""Where does the consensus stand? Append-only rows below `consensus/`; the one that no other supersedes is the last.

Two that form it at once may both supersede the same row; then the later one stands, of one moment that of the greater
id, which every reader finds alike.
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_annotation.consensus.decision import State
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import StoreError
from winnow_storage.ids import digest_value
from winnow_storage.parquet_rows import find_below
from winnow_storage.schemas import CONSENSUS

PREFIX = "consensus/"
_MOVED = 0.005  # of a posterior: less is no new row

Subject = tuple[str, str, str]  # job, task, item_id


@dataclass(frozen=True, slots=True)
class ConsensusRow:
    """Fields as in `schemas.CONSENSUS`."""

    consensus_id: str
    job: str
    task: str
    operator: str
    item_id: str
    version: str
    key: str
    uri: str
    state: str
    answer: str
    posterior: float
    people_answer: str
    people_posterior: float
    agreed: bool
    votes: int
    wanted: int
    method: str
    annotators: tuple[str, ...]
    labels: tuple[str, ...]
    supersedes: str | None
    formed_at: datetime

    @property
    def subject(self) -> Subject:
        """What it is about."""
        return self.job, self.task, self.item_id

    def says_as(self, other: "ConsensusRow") -> bool:
        """Whether nothing that matters differs: neither answers, nor state, nor votes, nor posteriors by much."""
        same = all(getattr(self, name) == getattr(other, name) for name in _SAID)
        moved = max(abs(self.posterior - other.posterior), abs(self.people_posterior - other.people_posterior))
        return same and moved < _MOVED


_SAID = (
    "version",
    "operator",
    "state",
    "answer",
    "people_answer",
    "agreed",
    "wanted",
    "method",
    "annotators",
    "labels",
)


def consensus_id(row: Mapping[str, object]) -> str:
    """Of a row, from all that it says but when."""
    said = {name: value for name, value in row.items() if name not in ("consensus_id", "formed_at")}
    return digest_value(said)[:32]


def standing_rows(store: BlobStore) -> dict[Subject, ConsensusRow]:
    """The row that stands of every item and task; those of items whose answers were all withdrawn are among them.

    Raises:
        StoreError: as the store says, or an object below `consensus/` is damaged.
    """
    rows: dict[str, ConsensusRow] = {}
    for info in store.walk(PREFIX):
        if info.key.endswith(".parquet"):
            rows |= {row.consensus_id: row for row in _read(store, info.key)}
    return _heads(rows)


def standing_rows_of_item(store: BlobStore, item_id: str) -> dict[Subject, ConsensusRow]:
    """Those of one item; of all others only the ids are read.

    Raises:
        StoreError: as `standing_rows` says.
    """
    rows = map(_row, find_below(store, PREFIX, "item_id", item_id))
    return _heads({row.consensus_id: row for row in rows})


def put_rows(store: BlobStore, rows: Iterable[ConsensusRow]) -> None:
    """Append them in one object, named by the rows in it; nothing if there are none."""
    written = list(rows)
    if not written:
        return
    table = pa.Table.from_pylist([asdict(row) for row in written], schema=CONSENSUS)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    name = digest_value(sorted(row.consensus_id for row in written))[:32]
    store.put_if_absent(f"{PREFIX}{name}.parquet", buffer.getvalue())


def is_withdrawn(row: ConsensusRow) -> bool:
    """Whether nobody's answer stands any more."""
    return row.state == State.WITHDRAWN


def _heads(rows: Mapping[str, ConsensusRow]) -> dict[Subject, ConsensusRow]:
    replaced = {row.supersedes for row in rows.values()}
    heads = [row for row in rows.values() if row.consensus_id not in replaced]
    return {row.subject: row for row in sorted(heads, key=lambda row: (row.formed_at, row.consensus_id))}


def _row(row: Mapping[str, Any]) -> ConsensusRow:
    return ConsensusRow(**{**row, "annotators": tuple(row["annotators"]), "labels": tuple(row["labels"])})


def _read(store: BlobStore, key: str) -> list[ConsensusRow]:
    try:
        table = pq.read_table(pa.BufferReader(store.get(key)), use_threads=False)
        found = table.select(CONSENSUS.names).cast(CONSENSUS).to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StoreError(
            f"{store.root}/{key} cannot be read: {error}",
            hint="restore it from a backup; else remove it, and winnow consensus SPEC forms it again from the labels",
        ) from error
    return [_row(row) for row in found]
