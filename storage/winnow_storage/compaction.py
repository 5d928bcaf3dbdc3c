"""Which files hold `current`, and what do they cover? The record of a compaction, and the pointer to the newest one.

A compaction writes into a folder of its own, `current/<number>/`, that it claims by a put-if-absent. When all files
stand, it puts its record, if absent, as `current/<number>/_compaction.json`, and then replaces `current/latest.json`,
which is a copy of the most advanced record. Files are never replaced, so a reader with an older pointer reads on.

The pointer only moves forward: records are ordered by what they cover (`Compaction.rank`), and everyone who puts the
pointer looks at the records afterwards and puts again what is ahead of it. Should that one die in between, the pointer
stays behind until the next compaction. That costs time and is never wrong, since readers check what a record covers.
"""

from dataclasses import asdict, dataclass

from pydantic import ConfigDict, TypeAdapter, ValidationError

from winnow_storage import ids
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.committed import Committed, CommittedRun
from winnow_storage.current import Base
from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.parts import Part

FORMAT = 1
FOLDER = "current/"
POINTER = "current/latest.json"


@dataclass(frozen=True, slots=True)
class Cover:
    """How many of a run's shards were committed when it was read, and how many it plans."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    shards: int
    planned: int
    plan: str  # the digest of its plan: a run that was removed and begun again is another one


@dataclass(frozen=True, slots=True)
class Compaction:
    """The record of one compaction."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    format: int
    number: int
    job: str
    created_at: str  # ISO 8601
    snapshot_run: str  # whose snapshot says which items there are
    base: int | None  # the compaction that this one went on from; null: it read all runs
    files: tuple[Part, ...]  # sorted by key, the first one's rows before the second one's
    left: tuple[Part, ...]  # versions with committed rows that are not in the snapshot (current_window.LEFT)
    rows: int
    pending: int  # items of the snapshot of which no row of that version is committed
    gone: int  # items with committed rows that are not in the snapshot
    dropped: int  # predictions that were left out because their fields cannot be cast; those read this time
    covers: dict[str, Cover]  # by run id
    tasks: dict[str, str]  # task -> its digest in the newest run

    @property
    def rank(self) -> tuple[int, int, int]:
        """What is ahead: the newer snapshot, then more shards, then the later number."""
        return int(self.snapshot_run), sum(cover.shards for cover in self.covers.values()), self.number

    def covers_all(self, committed: Committed) -> bool:
        """Whether `committed` holds nothing that this one has not read."""
        newest = committed.newest
        return newest is not None and all(self.covered(run) >= len(run.objects) for run in committed.runs)

    def covered(self, run: CommittedRun) -> int:
        """How many shards of a run were read; -1 if it was not there."""
        cover = self.covers.get(run.run_id)
        return cover.shards if cover is not None and cover.plan == run.plan else -1

    def agrees_with(self, other: "Compaction") -> bool:
        """Whether both speak of the same runs: not where a run was removed and begun again between them."""
        shared = self.covers.keys() & other.covers.keys()
        return all(self.covers[run_id].plan == other.covers[run_id].plan for run_id in shared)

    def as_base(self) -> Base:
        """What a later compaction goes on from."""
        return Base(_objects(self.files), _objects(self.left))

    def encode(self) -> bytes:
        """The bytes that stand in the bucket."""
        return ids.canonical_json(asdict(self)).encode()


_COMPACTION = TypeAdapter(Compaction)


def folder_of(number: int) -> str:
    """The folder of a compaction, relative to the output."""
    return f"{FOLDER}{number:08d}/"


def latest(store: BlobStore) -> Compaction | None:
    """The compaction that the pointer names; None before the first one.

    Raises:
        StoreError: the pointer is not one, or of another version of Winnow.
    """
    return _read(store, POINTER)


def claim(store: BlobStore) -> int:
    """A number that nobody else compacts under."""
    number = max(_numbers(store), default=0) + 1
    while not store.put_if_absent(f"{folder_of(number)}_claim", b""):
        number += 1
    return number


def publish(store: BlobStore, compaction: Compaction) -> Compaction:
    """Put the record, then move the pointer forward; the compaction that it names in the end.

    Raises:
        StoreError: another record stands under this number.
    """
    key = f"{folder_of(compaction.number)}_compaction.json"
    if not store.put_if_absent(key, compaction.encode()) and store.get(key) != compaction.encode():
        raise StoreError(
            f"{store.root}/{key} is there already, so two compactions wrote under one number",
            hint="the pointer was left as it is; run winnow compact again, once at a time",
        )
    while True:
        named = latest(store)
        known = [compaction, *_records(store), *([] if named is None else [named])]
        best = max((one for one in known if one.agrees_with(compaction)), key=lambda one: one.rank)
        if best == named:
            return best
        store.put(POINTER, best.encode())  # another may do so at this moment: look again


def superseded(store: BlobStore, named: Compaction) -> list[str]:
    """Folders that no reader needs any more: older than the compaction before `named`."""
    older = sorted(one.number for one in _records(store) if one.number < named.number)
    kept = {named.number, *older[-1:]}
    return [folder_of(number) for number in sorted(_numbers(store)) if number < named.number and number not in kept]


def _records(store: BlobStore) -> list[Compaction]:
    found = (_read(store, f"{folder_of(number)}_compaction.json") for number in _numbers(store))
    return [one for one in found if one is not None]


def _numbers(store: BlobStore) -> list[int]:
    return [int(name) for name in store.folders(FOLDER) if name.isdecimal()]


def _read(store: BlobStore, key: str) -> Compaction | None:
    try:
        found = _COMPACTION.validate_json(store.get(key))
    except BlobMissing:
        return None
    except ValidationError as error:
        raise StoreError(
            f"{store.root}/{key} is not what this version of Winnow writes there",
            hint="use the version that wrote it, or remove the folder current/ and run winnow compact again",
        ) from error
    if found.format != FORMAT:
        raise StoreError(
            f"{store.root}/{key} has the format {found.format}, this version of Winnow knows {FORMAT}",
            hint="use the version that wrote it, or remove the folder current/ and run winnow compact again",
        )
    return found


def _objects(parts: tuple[Part, ...]) -> tuple[BlobInfo, ...]:
    return tuple(BlobInfo(part.key, part.bytes, "") for part in parts)
