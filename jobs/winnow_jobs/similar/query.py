"""What is searched for? The vector of an item that has one, of another image, or of a text: by the rows' own task."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from winnow_jobs.similar.space import Space
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.uri import parse
from winnow_workers.querying import embed_image, embed_text
from winnow_workers.signals import ItemSignal

_NAMES = ("key", "item_id", "uri")  # what an item may be called by
_KEYS_SEEN = 200_000  # among which a near one is looked for


@dataclass(frozen=True, slots=True)
class Query:
    """A vector (width,) and what it is of; `leave_out`: the item itself, which is no find."""

    what: dict[str, Any]
    vector: npt.NDArray[np.float64]
    leave_out: frozenset[str] = field(default_factory=frozenset)


def of_item(space: Space, item: str) -> Query:
    """The vector that the item of that key, id or URI has.

    Raises:
        UsageError: there is no such item, or it has no vector in this space.
    """
    for block in space.vectors.blocks():
        place = _place(block.rows, item)
        if place is not None:
            row = block.rows.slice(place, 1).to_pylist()[0]
            what = {"item": row["key"], "item_id": row["item_id"], "uri": row["uri"]}
            return Query(what, block.vectors[place].astype(np.float64), frozenset({row["item_id"]}))
    raise _no_vector(space, item)


def of_image(space: Space, image: str) -> Query:
    """An image of any place, decoded and embedded as the rows were: by the model that is pinned in their run.

    Raises:
        UsageError: there is no such image, or it cannot be read as one.
        ModelError: the model of the rows is not there any more, or is another one.
    """
    location = parse(image)
    store = open_store(location.parent)
    info = store.info(location.name)
    if info is None:
        raise UsageError(f"there is no image at {image}", hint="give --image the path or s3:// URI of one file")
    try:
        vector = embed_image(
            space.task.config(), lambda: store.get(location.name), space.plan.spec.limits, space.task.decode
        )
    except ItemSignal as signal:
        raise UsageError(
            f"{image} cannot be searched by: {signal.reason}", hint="give --image one image file"
        ) from signal
    return Query({"image": location.uri}, vector)


def of_text(space: Space, text: str) -> Query:
    """A text, in the space that the pair of a CLIP or SigLIP folder shares.

    Raises:
        UsageError: the text is empty, or no text can be compared with these vectors.
        ModelError: the model of the rows is not there any more, or is another one.
    """
    if not text.strip():
        raise UsageError("--text is empty", hint="say what should be seen in the images")
    return Query({"text": text}, embed_text(space.task.config(), text))


def _place(rows: pa.Table, item: str) -> int | None:
    for name in _NAMES:
        place = pc.index(rows[name], item).as_py()
        if place >= 0:
            return int(place)
    return None


def _no_vector(space: Space, item: str) -> UsageError:
    for table in space.view.tables([*_NAMES, "outcome", "reason"]):
        place = _place(table, item)
        if place is not None:
            row = table.slice(place, 1).to_pylist()[0]
            reason = f" ({row['outcome']}: {row['reason']})" if row["reason"] else f" ({row['outcome']})"
            return UsageError(
                f"{row['key']} has no vector of the task {space.task.name!r} in this space{reason}",
                hint=f"{space.command} brings it up to date, or search by its file: --image",
            )
    near = difflib.get_close_matches(item, _some_keys(space), n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return UsageError(
        f"no current item is {item!r}", hint=f"{meant}an item is named by its key, item_id or uri; --image takes files"
    )


def _some_keys(space: Space) -> list[str]:
    def keys() -> Iterator[str]:
        for table in space.view.tables(["key"]):
            yield from table["key"].to_pylist()

    return [key for _, key in zip(range(_KEYS_SEEN), keys(), strict=False)]
