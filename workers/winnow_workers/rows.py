"""What does an item's row say? From what came of the item to one row of the results."""

import posixpath
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage.blobs import locate
from winnow_storage.ids import digest_bytes
from winnow_storage.listing import ABSENT
from winnow_storage.packed.names import parse_place
from winnow_storage.schemas import Outcome
from winnow_workers.fetch import Fetched
from winnow_workers.frontier import TaskFailure
from winnow_workers.operator import Operator, OperatorParams, Prediction
from winnow_workers.signals import REPLACED

FAULTS, FAULT_CHARACTERS = 8, 160
_VARYING = re.compile(r"s3://\S+|file://\S+|/\S+|'[^']*'|\"[^\"]*\"|0x[0-9a-f]+|\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class RowCounts:
    """What a shard's rows add up to."""

    outcomes: dict[str, int]
    predictions: dict[str, int]  # per task, structs without an error
    errors: dict[str, int]
    copied: int
    from_vectors: int
    faults: dict[str, int]  # what failed, unavailable or missing items say, without what differs from item to item
    bytes: int
    items_digest: str


def build_row(
    fetched: Fetched,
    answers: Mapping[str, Prediction | TaskFailure],
    *,
    operators: Mapping[str, Operator[OperatorParams]],
    run_id: str,
    shard: int,
) -> dict[str, object]:
    """The row of one item: exactly one outcome, a struct for every task that ran, null for every one that did not.

    A copy's row is without what it takes over from its leader (`copies.with_copies`).
    """
    item, decoded, signal = fetched.item, fetched.decoded, fetched.signal
    stored = {} if fetched.stored is None else fetched.stored.file
    failed = [name for name, answer in answers.items() if isinstance(answer, TaskFailure)]
    if signal is not None:
        outcome, reason = signal.outcome, signal.reason
    elif failed:
        outcome = Outcome.FAILED
        reason = "; ".join(f"{name}: {_error(answers[name])}" for name in failed)
    else:
        outcome, reason = Outcome.DONE, None
    row: dict[str, object] = {
        "item_id": item.item_id,
        "key": item.key,
        "uri": item.uri,
        "version": item.version if fetched.version is None else fetched.version,
        "content_sha256": fetched.content_sha256,
        "bytes": fetched.bytes,
        "format": decoded.format if decoded is not None else stored.get("format"),
        "width": decoded.width_px if decoded is not None else stored.get("width"),
        "height": decoded.height_px if decoded is not None else stored.get("height"),
        "outcome": str(outcome),
        "reason": reason,
        "failed_tasks": failed,
        "copied_from": fetched.copied.item_id if fetched.copied is not None else None,
        "run_id": run_id,
        "shard": shard,
    }
    for name, answer in answers.items():
        row[name] = _struct(answer, operators[name], None if decoded is None else decoded.decoder)
    return row


def summarise(rows: pa.Table, tasks: Sequence[str], stored: Collection[str] = ()) -> RowCounts:
    """Count a shard's rows for its receipt; `stored` are the items of which nothing had to be fetched."""
    is_stored = pc.is_in(rows["item_id"], pa.array(sorted(stored), pa.string()))
    is_decided = pc.not_equal(rows["outcome"], Outcome.UNAVAILABLE.value)
    outcomes = Counter(rows["outcome"].to_pylist())
    predictions, errors = {}, {}
    for task in tasks:
        ran = pc.is_valid(rows[task])
        failed = pc.and_(ran, pc.is_valid(pc.struct_field(rows[task], "error")))
        errors[task] = pc.sum(failed).as_py() or 0
        predictions[task] = (pc.sum(ran).as_py() or 0) - errors[task]
    return RowCounts(
        outcomes=dict(sorted(outcomes.items())),
        predictions=predictions,
        errors=errors,
        copied=rows.num_rows - rows["copied_from"].null_count,
        from_vectors=pc.sum(pc.and_(is_stored, is_decided)).as_py() or 0,
        faults=_faults(rows),
        bytes=pc.sum(rows["bytes"].filter(pc.invert(is_stored))).as_py() or 0,
        items_digest=items_digest(rows["item_id"].to_pylist()),
    )


def items_digest(item_ids: Sequence[str]) -> str:
    """The digest of a set of items, whatever its order."""
    return digest_bytes("\n".join(sorted(item_ids)).encode())


def _faults(rows: pa.Table) -> dict[str, int]:
    # An item that was listed minutes ago and is gone is a fault: a store that lost its mount says the same of all.
    # What a corpus file names and its look-up did not find is the corpus file's own.
    known = pc.not_equal(rows["version"], ABSENT)
    gone = pc.and_(pc.equal(rows["outcome"], Outcome.MISSING.value), known)
    other = pc.is_in(rows["outcome"], pa.array([Outcome.FAILED.value, Outcome.UNAVAILABLE.value]))
    # One archive that somebody replaces meanwhile takes thousands of items with it; nothing is to be mended.
    other = pc.and_(other, pc.not_equal(pc.fill_null(rows["reason"], ""), REPLACED))
    ended = rows.filter(pc.or_(other, gone)).select(["outcome", "reason", "uri", "key"]).to_pylist()
    said = Counter(
        f"{row['outcome']}: {_of_any_item(row['reason'] or '', row['uri'], row['key'])[:FAULT_CHARACTERS]}"
        for row in ended
    )
    return dict(sorted(said.most_common(FAULTS)))


def _of_any_item(reason: str, uri: str, key: str) -> str:
    """What is said of an item, without what differs from item to item."""
    for name in _names(uri, key):
        if name in reason:
            reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "#", reason)  # an item "a" is not every "a" there
    return _VARYING.sub("#", reason)


def _names(uri: str, key: str) -> list[str]:
    """What an item may be called, each before what is a part of it. No pattern tells where a name with spaces ends."""
    place = parse_place(uri)
    container = uri if place is None else place.container
    root, inside = locate(container)
    names = {uri, container, inside, key, *map(posixpath.basename, (inside, key))}
    if root.scheme == "file":
        names.add(posixpath.dirname(f"/{inside}"))  # that is gone, or no longer mounted
    names |= {repr(name)[1:-1] for name in names}
    return sorted(names - {"", "/"}, key=len, reverse=True)


def _error(answer: Prediction | TaskFailure) -> str:
    return answer.error if isinstance(answer, TaskFailure) else ""


def _struct(
    answer: Prediction | TaskFailure, operator: Operator[OperatorParams], decoder: str | None
) -> dict[str, object]:
    sees_pixels = decoder is not None and operator.vectors_of is None
    preproc = f"{operator.preproc}-{decoder}" if sees_pixels else operator.preproc
    common: dict[str, object] = {"model": operator.model.digest, "preproc": preproc}
    if isinstance(answer, TaskFailure):
        return common | {"error": answer.error}
    return common | {
        "score": answer.score,
        "score_kind": answer.score_kind,
        "p_ok": answer.p_ok,
        "calibrator": answer.calibrator,
        **answer.fields,
    }
