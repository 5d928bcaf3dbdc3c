"""What is due, and in which shards? Pure: a snapshot and what was committed before, in; the work of a run, out."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

import pyarrow as pa
from pydantic import Field

from winnow_jobs.spec import Section
from winnow_storage.ids import digest_bytes
from winnow_storage.schemas import WORK, Outcome

SHARD_ITEMS_MIN, SHARD_ITEMS_MAX, SHARDS_WANTED = 16, 2048, 64


class Selection(Section):
    """What makes a run less, or more, than everything that is due."""

    tasks: tuple[str, ...] = ()  # empty: all
    retry: tuple[Outcome, ...] = ()
    limit: int | None = Field(default=None, ge=1)
    sample: int | None = Field(default=None, ge=1)

    @property
    def is_everything(self) -> bool:
        """Whether nothing was selected."""
        return self == Selection()


def shard_size(items: int, wanted: int | Literal["auto"]) -> int:
    """How many items a shard holds: what the spec says, or clamp(items / 64, 16, 2048)."""
    if wanted != "auto":
        return wanted
    return min(max(items // SHARDS_WANTED, SHARD_ITEMS_MIN), SHARD_ITEMS_MAX)


def due_work(
    snapshot: pa.Table,
    final: Mapping[str, AbstractSet[tuple[str, str]]],
    selection: Selection,
    *,
    wanted_shard_items: int | Literal["auto"] = "auto",
) -> tuple[pa.Table, int]:
    """The work of a run and the number of items in a shard.

    `snapshot` has the columns of `schemas.SNAPSHOT`, sorted by key. `final` holds, for each task of the job, the
    (item_id, version) pairs that have a final prediction of its present digest. The answer has the columns of
    `schemas.WORK`, in the snapshot's order, shards numbered from 0.
    """
    names = [name for name in final if not selection.tasks or name in selection.tasks]
    pairs = list(zip(snapshot["item_id"].to_pylist(), snapshot["version"].to_pylist(), strict=True))
    due = [tuple(name for name in names if pair not in final[name]) for pair in pairs]
    chosen = [index for index, tasks in enumerate(due) if tasks]
    chosen = _select(chosen, pairs, selection)
    size = shard_size(len(chosen), wanted_shard_items)
    work = snapshot.take(pa.array(chosen, pa.int64()))
    work = work.append_column(WORK.field("shard"), pa.array([n // size for n in range(len(chosen))], pa.int32()))
    work = work.append_column(
        WORK.field("tasks"), pa.array([list(due[index]) for index in chosen], WORK.field("tasks").type)
    )
    return work.cast(WORK), size


def _select(chosen: list[int], pairs: Sequence[tuple[str, str]], selection: Selection) -> list[int]:
    if selection.sample is not None:
        # by digest of the item: uniform, the same on every machine, and independent of the order of the listing
        chosen = sorted(chosen, key=lambda index: digest_bytes(f"sample\0{pairs[index][0]}".encode()))
        chosen = sorted(chosen[: selection.sample])
    return chosen[: selection.limit] if selection.limit is not None else chosen
