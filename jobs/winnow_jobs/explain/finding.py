"""Which item is meant by a key, an item_id or a URI? Found in sorted parts by statistics, not by reading them all.

A key is looked for in one row group of the newest snapshot and of each run's work. An item_id tells nothing of its key,
so the column of ids is read until it is met; so is that of URIs where a URI is not the corpus' own and a key.
"""

import bisect
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.compute as pc

from winnow_jobs.resolved import ResolvedCorpus
from winnow_jobs.runs import PlanDocument
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import UsageError
from winnow_storage.ids import item_id
from winnow_storage.parquet_rows import find_rows, first_value, read_groups
from winnow_storage.parts import Part, WorkPart, find_in_parts
from winnow_storage.uri import parse

_ITEM_ID = re.compile(r"[0-9a-f]{32}")
_BESIDE = 8  # keys on either side of where an unknown one would stand
_PARTS_LOOKED = 4  # through which keys are looked for that end alike: four million items
_NEAR = 3

Parts = Sequence[Part | WorkPart]


@dataclass(frozen=True, slots=True)
class Found:
    """An item; `listed` is its row in the newest snapshot, None if it is gone."""

    key: str
    item_id: str
    listed: dict[str, Any] | None


def find_item(store: BlobStore, plans: Sequence[PlanDocument], name: str) -> Found:
    """The item of that key, id or URI, as the newest run listed it or an earlier one took it.

    Raises:
        UsageError: there is none; the message names what is near.
        StoreError: as the store says, or a part is damaged.
    """
    newest = plans[-1]
    for key in keys_meant(name, newest.spec.corpus):
        listed = find_in_parts(store, newest.snapshot, key)
        if listed is not None or any(planned(store, plan, key) is not None for plan in reversed(plans)):
            return Found(key, item_id(newest.spec.corpus.id, key), listed)
    column = "item_id" if _ITEM_ID.fullmatch(name) else "uri" if "://" in name else None
    if column is not None:
        everywhere: list[Parts] = [newest.snapshot, *(plan.work for plan in reversed(plans))]
        for parts in everywhere:
            for row in _by_column(store, parts, column, name):
                return Found(row["key"], row["item_id"], find_in_parts(store, newest.snapshot, row["key"]))
    raise _unknown(store, newest, name)


def planned(store: BlobStore, plan: PlanDocument, key: str) -> dict[str, Any] | None:
    """The row of an item in the work of a run, which says its shard; None if the run does not have it.

    Raises:
        StoreError: as the store says, or a part is damaged.
    """
    leaders = [part for part in plan.work if part.first_shard < plan.first_copy_shard]
    copies = [part for part in plan.work if part.first_shard >= plan.first_copy_shard]
    return find_in_parts(store, leaders, key) or find_in_parts(store, copies, key)


def keys_meant(name: str, corpus: ResolvedCorpus) -> list[str]:
    """The keys that somebody may mean: the name itself, or what of a path or URI lies below the corpus."""
    root, found = parse(corpus.uri), [name]
    names = [name] if "://" in name or root.scheme != "file" else [name, str(Path(name).absolute())]
    for one in names:
        for form in (str(root), root.uri):
            if one.startswith(f"{form}/"):
                rest = one.removeprefix(f"{form}/")
                found += [rest, unquote(rest)]
    return list(dict.fromkeys(found))


def _by_column(store: BlobStore, parts: Parts, column: str, value: str) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield from find_rows(store, _info(part), column, value, ["item_id", "key"]).to_pylist()


def _unknown(store: BlobStore, newest: PlanDocument, name: str) -> UsageError:
    near = _near_keys(store, newest.snapshot, name)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    there = f"which had {newest.corpus_items:,} items when run {newest.run_id} listed it"
    return UsageError(
        f"no item of {newest.spec.job} is {name!r}: it is not in {newest.spec.corpus.uri}, {there}, and no earlier run "
        "had it",
        hint=f"{meant}An item is named by its key, item_id or uri; what was added since then: winnow run SPEC",
    )


def _near_keys(store: BlobStore, parts: Parts, name: str) -> list[str]:
    """Keys that end as the name does, and those among which it would stand that are most like it."""
    ends: list[str] = []
    beside: list[str] = []
    for part in _looked_through(store, parts, name):
        for rows in read_groups(store, _info(part), ["key"]):
            keys = rows["key"]
            ends += keys.filter(pc.ends_with(keys, pattern=f"/{name}")).slice(0, _NEAR).to_pylist()
            place = bisect.bisect_left(range(len(keys)), name, key=lambda at: str(keys[at].as_py()))
            first = max(0, place - _BESIDE)
            beside += keys.slice(first, place + _BESIDE - first).to_pylist()
    alike = difflib.get_close_matches(name, list(dict.fromkeys(beside)), n=_NEAR, cutoff=0.6)
    return list(dict.fromkeys([*ends, *alike]))[:_NEAR]


def _looked_through(store: BlobStore, parts: Parts, name: str) -> list[Part | WorkPart]:
    place = bisect.bisect_right(parts, name, key=lambda part: first_value(store, _info(part), "key")) - 1
    return list({part.key: part for part in [*parts[max(0, place) :][:1], *parts[: _PARTS_LOOKED - 1]]}.values())


def _info(part: Part | WorkPart) -> BlobInfo:
    return BlobInfo(part.key, part.bytes, "")
