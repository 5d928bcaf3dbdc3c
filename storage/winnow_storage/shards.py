"""How is a shard committed and known to be committed? Its one Parquet object is the commit, its footer the receipt."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, NonNegativeInt, TypeAdapter, ValidationError

from winnow_storage import ids
from winnow_storage.backoff import Backoff
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import BlobMissing, StoreError, StoreUnavailable
from winnow_storage.parquet_rows import text_columns
from winnow_storage.range_file import RangeFile
from winnow_storage.retrying import Retrying

RECEIPT_KEY = b"winnow.receipt"
RECEIPT_SHA256_KEY = b"winnow.receipt_sha256"  # a footer is read by a range, which no ETag vouches for
MAX_SHARD_BYTES = 1 << 30  # a commit is one PUT, never multipart: some servers ignore the condition there
# A request that is given up costs an image, a commit that is given up ends the run and costs every shard under way. So
# after a round of requests, each with the store's own patience (a minute), another one is made, until six minutes are
# over: a round that begins last and takes as long as all before it is within an actor's time for a commit.
PATIENCE = Backoff(attempts=200, first_wait_s=1.0, longest_wait_s=15.0, budget_s=360.0, sure_attempts=1)
_FOOTER_READS = 4
_SEAL = TypeAdapter(list[tuple[NonNegativeInt, NonNegativeInt]])
_SHARD_NAME = re.compile(r"(\d{8})\.parquet")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a shard object says of itself in its footer."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    run_id: str
    shard: int
    job: str
    plan_digest: str
    items_digest: str  # of the sorted item ids
    code_version: str
    attempt: str  # of the worker that wrote it
    outcomes: dict[str, int]  # rows per outcome
    predictions: dict[str, int]  # task -> structs that are there with no error
    errors: dict[str, int]  # task -> structs with an error
    models: dict[str, str]  # task -> digest
    bytes: int  # of the images that were read in this run
    seconds: dict[str, float]  # stage -> time
    copied: int = 0  # rows whose predictions were taken over from a row of the same bytes
    from_vectors: int = 0  # rows of which nothing was fetched: decided from vectors of committed rows alone
    faults: dict[str, int] = field(default_factory=dict)  # what failed and unavailable items say -> how many say it


_RECEIPT = TypeAdapter(Receipt)


def results_prefix(run_id: str) -> str:
    """The folder of a run's shard objects, relative to the output root."""
    return f"runs/{run_id}/results/"


def shard_key(run_id: str, shard: int) -> str:
    """The key of a shard object, relative to the output root."""
    return f"{results_prefix(run_id)}{shard:08d}.parquet"


def encode_shard(rows: pa.Table, receipt: Receipt) -> bytes:
    """The bytes of a shard object; equal rows and receipt give equal bytes.

    Text is dictionary-encoded, everything else PLAIN, all of it zstd: DuckDB reads float16 in no other encoding.

    Raises:
        StoreError: more than MAX_SHARD_BYTES.
    """
    sink = pa.BufferOutputStream()
    text = ids.canonical_json(asdict(receipt)).encode()
    dictionaries = text_columns(rows.schema)
    with pq.ParquetWriter(
        sink, rows.schema, compression="zstd", use_dictionary=dictionaries, write_page_checksum=True
    ) as writer:
        writer.write_table(rows, row_group_size=max(1, rows.num_rows))
        writer.add_key_value_metadata({RECEIPT_KEY: text, RECEIPT_SHA256_KEY: ids.digest_bytes(text).encode()})
    data: bytes = sink.getvalue().to_pybytes()
    _check_size(data, receipt)
    return data


def commit_shard(
    store: BlobStore, data: bytes, receipt: Receipt, *, retrying: Retrying | None = None
) -> tuple[Receipt, bool]:
    """Put the shard object if it is absent: the receipt of the one that stands then, and whether this attempt made it.

    The shard is committed either way. Where the answer to a put got lost, the store may say that the object was there
    before; whose it is, its receipt says.

    Raises:
        StoreUnavailable: the store could not answer, for as long as PATIENCE says.
        StoreError: more than MAX_SHARD_BYTES, or what is there is not this shard of this plan.
    """
    _check_size(data, receipt)
    return (retrying or Retrying()).call(lambda: _commit(store, data, receipt), lambda _: PATIENCE)


def read_receipt(store: BlobStore, key: str, *, size_bytes: int | None = None) -> Receipt:
    """The receipt in the footer of the shard object `key`, without reading its rows.

    Raises:
        BlobMissing: there is no such object.
        StoreUnavailable: its footer came damaged, and each time differently.
        StoreError: it is not a shard object.
    """
    seen = set()
    for _ in range(_FOOTER_READS):
        try:
            return _read_footer(store, key, size_bytes)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:  # OSError is Arrow's, of bad Thrift
            what = f"{type(error).__name__}: {error}"
            if what in seen:  # what is read twice is what is stored
                raise StoreError(
                    f"{store.root}/{key} is not a shard that Winnow wrote ({what})",
                    hint="move that object out of the results folder, then run the same command",
                ) from error
            seen.add(what)
    raise StoreUnavailable(
        f"the footer of {store.root}/{key} came damaged {_FOOTER_READS} times, each time in another way",
        hint="check the network to the store, then try again",
    )


def committed_shards(store: BlobStore, run_id: str) -> dict[int, BlobInfo]:
    """The shards of a run that are committed and count, by number, in order.

    Of a sealed run those of its seal: a worker may commit after its run was abandoned, and nobody would route that.

    Raises:
        StoreError: another Parquet object lies among them, which a glob over the results would read too; the seal is
            damaged.
    """
    sealed = read_seal(store, run_id)  # first: whatever it names is then in the listing
    prefix, found = results_prefix(run_id), {}
    for info in store.walk(prefix):
        name = info.key.removeprefix(prefix)
        if (match := _SHARD_NAME.fullmatch(name)) is not None:
            if sealed is None or int(match[1]) in sealed:
                found[int(match[1])] = info
        elif name.endswith(".parquet"):
            raise StoreError(
                f"{store.root}/{info.key} is no shard of the run", hint="move it out of the results folder"
            )
    return found


def seal(store: BlobStore, run_id: str) -> dict[int, BlobInfo]:
    """Say for good which shards of a run count, if nobody did yet: those that are committed now; all that count.

    Raises:
        StoreError: as `committed_shards`.
    """
    found = committed_shards(store, run_id)
    if store.put_if_absent(seal_key(run_id), ids.canonical_json(ranges(list(found))).encode()):
        return found
    return committed_shards(store, run_id)


def read_seal(store: BlobStore, run_id: str) -> frozenset[int] | None:
    """The shards that a run's seal names; None while there is none.

    Raises:
        StoreError: what stands there is no seal.
    """
    key = seal_key(run_id)
    try:
        found = _SEAL.validate_json(store.get(key))
    except BlobMissing:
        return None
    except ValidationError as error:
        raise StoreError(
            f"{store.root}/{key} is damaged: {error.errors()[0]['msg']}",
            hint="restore it from a backup: it says which shards of the run count",
        ) from error
    return frozenset(shard for first, last in found for shard in range(first, last + 1))


def seal_key(run_id: str) -> str:
    """Where the seal of a run stands, relative to the output root."""
    return f"runs/{run_id}/seal.json"


def ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Sorted numbers as (first, last) of every unbroken stretch."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _commit(store: BlobStore, data: bytes, receipt: Receipt) -> tuple[Receipt, bool]:
    key = shard_key(receipt.run_id, receipt.shard)
    # Looked at first: a store that ignores the condition without a word (output.single_writer) would overwrite it.
    if store.info(key) is None and store.put_if_absent(key, data):
        return receipt, True
    found = read_receipt(store, key)
    if _identity(found) != _identity(receipt):
        raise StoreError(
            f"{store.root}/{key} holds other items or another plan than this shard (written by attempt "
            f"{found.attempt} of job {found.job})",
            hint="nothing was overwritten; move that object away, or start again with: winnow run --new",
        )
    return found, found.attempt == receipt.attempt


def _read_footer(store: BlobStore, key: str, size_bytes: int | None) -> Receipt:
    with RangeFile(store, key, size_bytes=size_bytes) as file:
        metadata = pq.read_metadata(file).metadata or {}
    text, digest = metadata[RECEIPT_KEY], metadata[RECEIPT_SHA256_KEY].decode(errors="replace")
    if ids.digest_bytes(text) != digest:
        raise ValueError(f"its receipt is not what its digest says: {ids.digest_bytes(text)}")
    return _RECEIPT.validate_json(text)


def _identity(receipt: Receipt) -> tuple[str, int, str, str]:
    return receipt.run_id, receipt.shard, receipt.plan_digest, receipt.items_digest


def _check_size(data: bytes, receipt: Receipt) -> None:
    if len(data) > MAX_SHARD_BYTES:
        raise StoreError(
            f"shard {receipt.shard} of run {receipt.run_id} is {len(data):,} bytes; the limit is {MAX_SHARD_BYTES:,}",
            hint="lower run.shard_items in the spec, then: winnow run --new",
        )
