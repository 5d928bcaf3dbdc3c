"""What is true, and where does it stand? Files of several kinds become one record per item, by operator.

| operator | truth |
|---|---|
| classify | CSV with `key,label`, or `key,labels` with several ones separated by `|` |
| detect | COCO JSON: boxes, crowds |
| segment | COCO JSON: polygons, RLE; or a folder of PNG index masks, named like the images |
| ocr | CSV with `key,text`, or a folder of .txt files, named like the images |
| anomaly | CSV with `key,anomalous` (true or false; also good or defect, 1 or 0) |
| any of them | `labels`: what people answered in Label Studio, the newest answer of each item |

A key of the truth is the item's key, or the end of exactly one item's key from a `/` on, without suffix for folders.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from winnow_storage.errors import UsageError

Rle = dict[str, Any]
_YES = {"true", "1", "yes", "defect", "anomalous", "bad"}
_NO = {"false", "0", "no", "good", "normal", "ok"}


@dataclass(frozen=True, slots=True)
class TrueObject:
    """One object of an image: its box in xyxy px, and its mask where the file has one."""

    label: str
    box: tuple[float, float, float, float]
    rle: Rle | None = None
    area: float = 0.0
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class TrueItem:
    """What is true of one item; only what its operator asks for is set."""

    label: str | None = None
    labels: tuple[str, ...] | None = None
    objects: tuple[TrueObject, ...] | None = None
    masks: Mapping[str, Rle] | None = None
    text: str | None = None
    anomalous: bool | None = None


@dataclass(frozen=True, slots=True)
class TruthSet:
    """By key as the truth writes it. `is_stem`: keys are without suffix."""

    items: Mapping[str, TrueItem]
    where: str
    is_stem: bool = False
    classes: tuple[str, ...] = field(default=())


def read_truth(place: Path, operator: str, *, classes: Sequence[str] = ()) -> TruthSet:
    """The truth at `place` for a task of that operator; `classes` names the values 1, 2, ... of index masks.

    Raises:
        UsageError: no such file, or one that does not say what this operator is asked; names file and line.
    """
    if not place.exists():
        raise UsageError(f"there is no truth at {place}", hint="give --truth a file or a folder")
    reader = _READERS.get((operator, "folder" if place.is_dir() else place.suffix.lower()))
    if reader is None:
        known = sorted({kind for name, kind in _READERS if name == operator})
        raise UsageError(
            f"{place}: no truth of this kind is known for {operator}",
            hint=f"for {operator} give one of: {', '.join(known)}" if known else f"{operator} cannot be evaluated",
        )
    return reader(place, classes)


def from_answers(answers: Iterable[Mapping[str, Any]], operator: str) -> TruthSet:
    """People's answers ({key, value: JSON}) as truth; those that say nothing are left out."""
    items = {}
    for row in answers:
        value = json.loads(row["value"]) if row["value"] else {}
        item = _answer(value, operator)
        if item is not None:
            items[row["key"]] = item
    return TruthSet(items, "labels")


def pair_keys(truth: TruthSet, keys: Iterable[str]) -> dict[str, str]:
    """Item key -> truth key; an ambiguous end of a key matches nothing."""
    by_end: dict[str, list[str]] = {}
    for key in keys:
        whole = key.rpartition(".")[0] or key if truth.is_stem else key
        parts = whole.split("/")
        for start in range(len(parts)):
            by_end.setdefault("/".join(parts[start:]), []).append(key)
    found = {}
    for name in truth.items:
        matches = by_end.get(name, [])
        exact = [key for key in matches if key == name]
        if len(matches) == 1 or exact:
            found[(exact or matches)[0]] = name
    return found


def _rows(place: Path, *needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    with place.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if "key" not in columns or not any(name in columns for name in needed):
            raise UsageError(
                f"{place}:1: the columns are {', '.join(columns) or 'none'}",
                hint=f"the first line must name key and {' or '.join(needed)}",
            )
        seen: dict[str, int] = {}
        for row in reader:
            line = reader.line_num
            if not row["key"]:
                raise UsageError(f"{place}:{line}: the key is empty", hint="write the image's key")
            if row["key"] in seen:
                raise UsageError(
                    f"{place}:{line}: {row['key']} stands on line {seen[row['key']]} already", hint="keep one of them"
                )
            seen[row["key"]] = line
            yield line, row


def _classes_csv(place: Path, _classes: Sequence[str]) -> TruthSet:
    items = {}
    for line, row in _rows(place, "label", "labels"):
        several = row.get("labels")
        if several is not None:
            items[row["key"]] = TrueItem(labels=tuple(sorted({one.strip() for one in several.split("|") if one})))
        elif row.get("label"):
            items[row["key"]] = TrueItem(label=row["label"])
        else:
            raise UsageError(f"{place}:{line}: the label is empty", hint="write a label, or remove the line")
    return TruthSet(items, str(place))


def _texts_csv(place: Path, _classes: Sequence[str]) -> TruthSet:
    return TruthSet({row["key"]: TrueItem(text=row["text"] or "") for _, row in _rows(place, "text")}, str(place))


def _texts_folder(place: Path, _classes: Sequence[str]) -> TruthSet:
    items = {}
    for file in sorted(place.rglob("*.txt")):
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is not UTF-8 ({error.reason})", hint="save it as UTF-8") from error
        items[_stem(file, place)] = TrueItem(text=text)
    return TruthSet(items, str(place), is_stem=True)


def _verdicts_csv(place: Path, _classes: Sequence[str]) -> TruthSet:
    items = {}
    for line, row in _rows(place, "anomalous", "label"):
        word = (row.get("anomalous") or row.get("label") or "").strip().lower()
        if word not in _YES | _NO:
            raise UsageError(f"{place}:{line}: {word!r} is no verdict", hint="write true or false (defect or good)")
        items[row["key"]] = TrueItem(anomalous=word in _YES)
    return TruthSet(items, str(place))


def _coco(place: Path, _classes: Sequence[str]) -> TruthSet:
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
        names = {one["id"]: str(one["name"]) for one in document["categories"]}
        images = {one["id"]: one for one in document["images"]}
        objects: dict[Any, list[TrueObject]] = {number: [] for number in images}
        for number, one in enumerate(document["annotations"]):
            if one["image_id"] not in images or one["category_id"] not in names:
                raise UsageError(
                    f"{place}: annotations[{number}] names an image or category that the file does not have",
                    hint="export the file again",
                )
            objects[one["image_id"]].append(_coco_object(one, images[one["image_id"]], names))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{place} is not COCO JSON: {type(error).__name__} {error}",
            hint="it needs images, annotations and categories",
        ) from error
    items = {
        str(image["file_name"]): TrueItem(objects=tuple(objects[number]), masks=_by_class(objects[number]))
        for number, image in images.items()
    }
    return TruthSet(items, str(place), classes=tuple(names.values()))


def _coco_object(one: Mapping[str, Any], image: Mapping[str, Any], names: Mapping[Any, str]) -> TrueObject:
    left, top, width, height = (float(value) for value in one["bbox"])
    rle = _coco_rle(one.get("segmentation"), int(image.get("height") or 0), int(image.get("width") or 0))
    return TrueObject(
        names[one["category_id"]],
        (left, top, left + width, top + height),
        rle,
        float(one.get("area") or width * height),
        bool(one.get("iscrowd")),
    )


def _coco_rle(segmentation: Any, height: int, width: int) -> Rle | None:
    from pycocotools import mask as coco

    if not segmentation:
        return None
    if isinstance(segmentation, list):
        encoded = coco.merge(coco.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        encoded = coco.frPyObjects(segmentation, height, width)
    else:
        return {"size": list(segmentation["size"]), "counts": segmentation["counts"]}
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def _by_class(objects: Sequence[TrueObject]) -> dict[str, Rle] | None:
    from winnow_workers.evaluation.masks import union

    labels = sorted({one.label for one in objects if one.rle is not None and not one.crowd})
    return {
        label: union([one.rle for one in objects if one.label == label and one.rle and not one.crowd])
        for label in labels
    }


def _mask_folder(place: Path, classes: Sequence[str]) -> TruthSet:
    from PIL import Image
    from pycocotools import mask as coco

    if not classes:
        raise UsageError(
            f"{place}: index masks say numbers, not classes",
            hint="add --classes NAME,NAME,... for the values 1, 2, ...",
        )
    items = {}
    for file in sorted(place.rglob("*.png")):
        with Image.open(file) as image:
            values = np.asarray(image)
        if values.ndim != 2 or int(values.max(initial=0)) > len(classes):
            raise UsageError(
                f"{file}: shape {values.shape}, highest value {int(values.max(initial=0))}",
                hint=f"an index mask has one channel with values up to {len(classes)} ({', '.join(classes)})",
            )
        found = {}
        for value, label in enumerate(classes, 1):
            if (values == value).any():
                encoded = coco.encode(np.asfortranarray((values == value).astype(np.uint8)))
                found[label] = {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}
        items[_stem(file, place)] = TrueItem(masks=found)
    return TruthSet(items, str(place), is_stem=True, classes=tuple(classes))


def _answer(value: Mapping[str, Any], operator: str) -> TrueItem | None:
    if operator == "classify" and value.get("label") is not None:
        return TrueItem(label=value["label"])
    if operator == "ocr" and "full_text" in value:
        return TrueItem(text=value["full_text"])
    if operator == "anomaly" and value.get("is_anomalous") is not None:
        return TrueItem(anomalous=bool(value["is_anomalous"]))
    if operator == "segment" and "masks" in value:
        return TrueItem(masks={one["label"]: one["rle"] for one in value["masks"]})
    if operator == "detect" and "boxes" in value:
        boxes = [TrueObject(one["label"], tuple(one["box"])) for one in value["boxes"]]
        return TrueItem(objects=tuple(boxes))
    return None


def _stem(file: Path, root: Path) -> str:
    return file.relative_to(root).with_suffix("").as_posix()


_READERS: Mapping[tuple[str, str], Callable[[Path, Sequence[str]], TruthSet]] = {
    ("classify", ".csv"): _classes_csv,
    ("ocr", ".csv"): _texts_csv,
    ("ocr", "folder"): _texts_folder,
    ("anomaly", ".csv"): _verdicts_csv,
    ("detect", ".json"): _coco,
    ("segment", ".json"): _coco,
    ("segment", "folder"): _mask_folder,
}
