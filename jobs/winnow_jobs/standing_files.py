"""What stood when the newest compaction was made? A record beside it, and Parquet parts sorted by key and version.

`current` itself cannot say it: it holds no version that left the corpus, not how items without a prediction ended, and
of a task only the newest prediction, whatever its digest. A record counts only where every run that it speaks of is
there as it was read; who finds that it does not, or that its parts are damaged, reads all runs.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, TypeAdapter, ValidationError

from winnow_jobs.standing import SAYS, SILENT, StandingRows
from winnow_storage import compaction, ids
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import StoreDenied, StoreError, StoreUnavailable
from winnow_storage.parquet_rows import read_groups
from winnow_storage.parts import Part

FORMAT = 2
CODES = {str(outcome): code for outcome, code in SAYS.items()}
_SAID = pa.struct(
    [
        pa.field("says", pa.int8(), nullable=False),
        pa.field("run", pa.int32(), nullable=False),
        pa.field("place", pa.int64(), nullable=False),  # of the row in that run (standing.ROW_BITS)
    ]
)


class StandingDamaged(Exception):
    """A part of a record cannot be read, or is not what the record says."""


@dataclass(frozen=True, slots=True)
class ReadRun:
    """What of a run was read: the digest of its plan, and of the names and versions of its shards' objects."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    plan: str
    objects: str


@dataclass(frozen=True, slots=True)
class TakenDown:
    """The record: `_standing.json` of a compaction."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    format: int
    codes: dict[str, int]  # outcome -> what stands for it in `says`
    corpus_id: str
    tasks: dict[str, str]  # task -> the digest of which it speaks
    through: int  # the number of the newest run that it speaks of; runs after it are read
    runs: dict[str, ReadRun]  # by run id, those up to it that have the corpus and one of these tasks
    parts: tuple[Part, ...]


_TAKEN_DOWN = TypeAdapter(TakenDown)


def newest(store: BlobStore) -> TakenDown | None:
    """The record of the newest compaction; None where there is none that this version of Winnow understands."""
    try:
        found = compaction.latest(store)
        data = None if found is None else store.get(_record_key(found.number))
    except (StoreDenied, StoreUnavailable):
        raise
    except StoreError:
        return None
    try:
        record = None if data is None else _TAKEN_DOWN.validate_json(data)
    except ValidationError:
        return None
    return record if record is not None and (record.format, record.codes) == (FORMAT, CODES) else None


def objects_digest(infos: Iterable[BlobInfo]) -> str:
    """Of the objects of a run, in order: another one as soon as one is added, removed or replaced."""
    digest = hashlib.sha256()
    for info in infos:
        digest.update(f"{info.key}\0{info.version}\0".encode())
    return digest.hexdigest()


def read(
    store: BlobStore, record: TakenDown, digests: Mapping[str, str], numbers: Sequence[int]
) -> Iterator[StandingRows]:
    """What stood for tasks of these digests, by name. A run's place is that of its number in `numbers`, which rise.

    Raises:
        StandingDamaged: a part is not there, or not what the record says.
    """
    known = [name for name, digest in digests.items() if record.tasks.get(name) == digest]
    for part in record.parts:
        count = 0
        try:
            for rows in read_groups(store, BlobInfo(part.key, part.bytes, ""), ["key", "version", *known]):
                if not rows.schema.equals(schema(known)):
                    raise StandingDamaged(part.key)
                count += rows.num_rows
                yield _standing_rows(rows, list(digests), numbers)
        except StoreError as error:
            raise StandingDamaged(part.key) from error
        if count != part.rows:
            raise StandingDamaged(part.key)


def put(store: BlobStore, number: int, record: TakenDown) -> None:
    """Put the record of the compaction of that number, once all its parts stand."""
    store.put(_record_key(number), ids.canonical_json(asdict(record)).encode())


def parts_prefix(number: int) -> str:
    """How the parts of a compaction's record begin."""
    return f"{compaction.folder_of(number)}_standing/part"


def schema(tasks: Iterable[str]) -> pa.Schema:
    """Of the parts."""
    text = [pa.field(name, pa.string(), nullable=False) for name in ("key", "version")]
    return pa.schema([*text, *(pa.field(name, _SAID, nullable=False) for name in tasks)])


def as_table(rows: StandingRows, tasks: Sequence[str], numbers: Sequence[int]) -> pa.Table:
    """Rows of the parts; `numbers` are those of the runs, by their place."""
    by_place = np.array(numbers, np.int32)
    structs = [
        pa.StructArray.from_arrays([pa.array(says), pa.array(by_place[runs]), pa.array(places)], fields=list(_SAID))
        for says, runs, places in zip(rows.says, rows.runs, rows.places, strict=True)
    ]
    return pa.table([rows.keys, rows.versions, *structs], schema=schema(tasks))


def _standing_rows(rows: pa.Table, names: Sequence[str], numbers: Sequence[int]) -> StandingRows:
    says = np.full((len(names), rows.num_rows), SILENT, np.int8)
    runs = np.zeros((len(names), rows.num_rows), np.int32)
    places = np.zeros((len(names), rows.num_rows), np.int64)
    for place, name in enumerate(names):
        if name in rows.column_names:
            says[place] = pc.struct_field(rows[name], "says").to_numpy()
            found = np.searchsorted(numbers, pc.struct_field(rows[name], "run").to_numpy())
            runs[place] = np.where(says[place] == SILENT, 0, found)
            places[place] = pc.struct_field(rows[name], "place").to_numpy()
    return StandingRows(rows["key"].combine_chunks(), rows["version"].combine_chunks(), says, runs, places)


def _record_key(number: int) -> str:
    return f"{compaction.folder_of(number)}_standing.json"
