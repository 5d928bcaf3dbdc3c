"""Does a store keep a conditional put's promise? Asked once per output root, and recorded there."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from winnow_storage import ids
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing, StoreError

RECORD = ".winnow/store.json"
_ROUNDS = 4
_THREADS = 16


def require_conditional_puts(store: BlobStore, *, single_writer: bool) -> None:
    """Make sure that commits to `store` happen once; probes it the first time, reads the record afterwards.

    From then on `store` looks before it puts, if it does not honour the condition.

    Raises:
        StoreError: it does not honour conditional puts, and the spec does not promise a single writer.
    """
    if _recorded(store):
        return
    store.conditional_puts = False
    if single_writer:
        return
    raise StoreError(
        f"{store.root} does not honour conditional puts (If-None-Match), so two writers could commit a shard twice",
        hint="use another store; or, if no two commands ever write there at once, set output.single_writer: true "
        f"(after an upgrade of the store, delete {RECORD} to have it probed again)",
    )


def probe_conditional_put(store: BlobStore) -> bool:
    """Whether a second put changes nothing, and of sixteen at once no two win, four times over.

    A store that answers 501 has said it itself; it is not left to the race. Leaves five objects of a few bytes below
    `.winnow/probe/`.
    """
    folder = f".winnow/probe/{uuid.uuid4().hex}"
    twice = f"{folder}/twice"
    store.put_if_absent(twice, b"first")
    if not store.conditional_puts or store.put_if_absent(twice, b"second") or store.get(twice) != b"first":
        return False
    return all(_one_wins(store, f"{folder}/race-{number}") for number in range(_ROUNDS))


def _recorded(store: BlobStore) -> bool:
    try:
        record = json.loads(store.get(RECORD))
        return bool(record["conditional_put"])
    except BlobMissing:
        honoured = probe_conditional_put(store)
        store.put(RECORD, ids.canonical_json({"conditional_put": honoured}).encode())
        return honoured
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{store.root}/{RECORD} is not what Winnow wrote there", hint="delete it") from error


def _one_wins(store: BlobStore, key: str) -> bool:
    start = threading.Barrier(_THREADS)

    def put(name: bytes) -> bool:
        start.wait()
        return store.put_if_absent(key, name)

    names = [b"%02d" % number for number in range(_THREADS)]
    with ThreadPoolExecutor(_THREADS) as pool:
        won = [name for name, created in zip(names, pool.map(put, names), strict=True) if created]
    # Nobody has won where the winner's answer got lost: what counts is that nobody was told a lie.
    return store.get(key) in (won or names) and len(won) <= 1
