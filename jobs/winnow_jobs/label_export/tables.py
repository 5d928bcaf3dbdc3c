"""How do answers become tables and texts? A CSV line for each item, as `winnow evaluate --truth` reads it."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from winnow_jobs.label_export.answers import Agreed
from winnow_storage.errors import UsageError

SEVERAL, BELOW = "|", " > "
_ABOUT = ("item_id", "version", "answers", "people", "purposes")

Row = Mapping[str, str]


def class_csv(operator: str, items: Sequence[Agreed]) -> tuple[str, int]:
    """The text of a CSV file, and how many items it leaves out because their answer says nothing.

    Raises:
        UsageError: a label cannot stand in it.
    """
    columns, row_of = _LAYOUTS[operator](items)
    sink = io.StringIO()
    about = _ABOUT if all(one.like is None for one in items) else (*_ABOUT, "like")
    writer = csv.DictWriter(sink, ["key", *columns, *about], lineterminator="\n")
    writer.writeheader()
    empty = 0
    for one in items:
        said = row_of(one.value)
        if said is None:
            empty += 1
        else:
            writer.writerow({"key": one.key, **said, **_about(one)})
    return sink.getvalue(), empty


def text_of(one: Agreed) -> str | None:
    """What stands in the image; None where the answer does not say."""
    text: str | None = one.value.get("full_text")
    return text


_Layout = tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Row | None]]


def _classes(items: Sequence[Agreed]) -> _Layout:
    if any(one.value.get("labels") is not None for one in items):
        return ("labels",), _set
    if any(one.value.get("path") for one in items):
        return ("label", "path"), _node
    return ("label",), lambda value: None if value.get("label") is None else {"label": value["label"]}


def _set(value: Mapping[str, Any]) -> Row | None:
    labels = value.get("labels")
    if labels is None:
        return None
    _check(labels, SEVERAL)
    return {"labels": SEVERAL.join(labels)}


def _node(value: Mapping[str, Any]) -> Row | None:
    if value.get("label") is None:
        return None
    path = value.get("path") or [value["label"]]
    _check(path, BELOW.strip())
    return {"label": value["label"], "path": BELOW.join(path)}


def _check(names: Sequence[str], between: str, *, what: str = "label") -> None:
    bad = next((name for name in names if between in name), None)
    if bad is not None:
        raise UsageError(
            f"the {what} {bad!r} holds {between!r}, which stands between {what}s in a CSV",
            hint="take --format parquet --only consensus, whose values are JSON",
        )


def _verdicts(_items: Sequence[Agreed]) -> _Layout:
    def said(value: Mapping[str, Any]) -> Row | None:
        verdict = value.get("is_anomalous")
        return None if verdict is None else {"anomalous": "true" if verdict else "false"}

    return ("anomalous",), said


def _neighbours(_items: Sequence[Agreed]) -> _Layout:
    def said(value: Mapping[str, Any]) -> Row | None:
        neighbours = [one for one in value.get("neighbours") or () if one["same"] is not None]
        _check([one["key"] for one in neighbours], SEVERAL, what="key")
        keys = {same: SEVERAL.join(one["key"] for one in neighbours if one["same"] is same) for same in (True, False)}
        return {"same": keys[True], "different": keys[False]} if neighbours else None

    return ("same", "different"), said


def _texts(_items: Sequence[Agreed]) -> _Layout:
    return ("text",), lambda value: None if value.get("full_text") is None else {"text": value["full_text"]}


def _about(one: Agreed) -> Row:
    return {
        "item_id": one.item_id,
        "version": one.version,
        "answers": str(len(one.labels)),
        "people": " ".join(one.people),
        "purposes": " ".join(one.purposes),
    } | ({} if one.like is None else {"like": one.like})


_LAYOUTS: Mapping[str, Callable[[Sequence[Agreed]], _Layout]] = MappingProxyType(
    {"classify": _classes, "anomaly": _verdicts, "ocr": _texts, "embed": _neighbours}
)
