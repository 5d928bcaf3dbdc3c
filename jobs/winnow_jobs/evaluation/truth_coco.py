"""How is a truth read from COCO JSON? Boxes, and masks as polygons or run-length codes; crowds are kept as such."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from winnow_jobs.evaluation.json_lines import line_of
from winnow_jobs.evaluation.true_items import Coco, Rle, TrueItem, TrueObject, TruthSet
from winnow_storage.errors import UsageError
from winnow_workers.evaluation.masks import union

_Fail = Callable[[str], UsageError]
_Annotation = tuple[Mapping[str, Any], _Fail]


def read_coco(path: Path, text: str, document: Mapping[str, Any], *, wants_masks: bool) -> TruthSet:
    """The objects of every image that the file lists; an image without annotations has none.

    Raises:
        UsageError: at file:line, what is wrong.
    """
    images = _by_id(path, text, document, "images", "file_name")
    categories = _by_id(path, text, document, "categories", "name")
    found: dict[Any, list[_Annotation]] = {number: [] for number in images}
    for place, annotation in enumerate(_list(path, document, "annotations")):
        fail = _failing(path, text, "annotations", place)
        if not isinstance(annotation, dict):
            raise fail("it is no object")
        for field, known in (("image_id", images), ("category_id", categories)):
            if not isinstance(annotation.get(field), int | str) or annotation[field] not in known:
                raise fail(f"its {field} is {annotation.get(field)!r}, which the file does not have")
        found[annotation["image_id"]].append((annotation, fail))
    names = {number: str(category["name"]) for number, category in categories.items()}
    items = {
        str(image["file_name"]): _item(found[number], image, names, wants_masks=wants_masks)
        for number, image in images.items()
    }
    keys = {number: str(image["file_name"]) for number, image in images.items()}
    return TruthSet(items, str(path), classes=tuple(names.values()), coco=Coco(keys, names))


def parse_json(path: Path) -> tuple[str, Any]:
    """(its text, what it says).

    Raises:
        UsageError: at file:line, that it is no JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        return text, json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path}:{error.lineno}:{error.colno}: no JSON: {error.msg}", hint="export it again"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 ({error.reason})", hint="save it as UTF-8") from error


def _by_id(path: Path, text: str, document: Mapping[str, Any], name: str, field: str) -> dict[Any, Any]:
    known: dict[Any, Any] = {}
    names: set[str] = set()
    for place, one in enumerate(_list(path, document, name)):
        fail = _failing(path, text, name, place)
        if not isinstance(one, dict) or not isinstance(one.get("id"), int | str) or not isinstance(one.get(field), str):
            raise fail(f"it needs an id and a {field}")
        if one["id"] in known or one[field] in names:
            raise fail(f"its id {one['id']!r} or {field} {one[field]!r} is taken already")
        known[one["id"]] = one
        names.add(one[field])
    return known


def _list(path: Path, document: Any, name: str) -> list[Any]:
    found = document.get(name) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise UsageError(
            f"{path} is not COCO JSON: it has no list {name!r}", hint="it needs images, annotations and categories"
        )
    return found


def _failing(path: Path, text: str, name: str, place: int) -> _Fail:
    def fail(what: str) -> UsageError:
        line = line_of(text, name, place)
        return UsageError(f"{path}:{line}: {name}[{place}]: {what}", hint="correct or remove that entry")

    return fail


def _item(
    annotations: Sequence[_Annotation], image: Mapping[str, Any], names: Mapping[Any, str], *, wants_masks: bool
) -> TrueItem:
    objects = tuple(_object(one, image, names, fail, wants_masks=wants_masks) for one, fail in annotations)
    if not wants_masks:
        return TrueItem(objects=objects)
    labels = sorted({one.label for one in objects if not one.crowd})
    by_label = {
        label: union([one.rle for one in objects if one.label == label and one.rle and not one.crowd])
        for label in labels
    }
    crowds = [one.rle for one in objects if one.crowd and one.rle]
    # a crowd's outline is coarse: its pixels count neither way
    return TrueItem(objects=objects, masks=by_label, ignored=union(crowds) if crowds else None)


def _object(
    one: Mapping[str, Any], image: Mapping[str, Any], names: Mapping[Any, str], fail: _Fail, *, wants_masks: bool
) -> TrueObject:
    left, top, right, bottom = _box(one.get("bbox"), fail, needed=not wants_masks)
    area = one.get("area", (right - left) * (bottom - top))
    if not _is_number(area) or area < 0:
        raise fail(f"its area is {area!r}, no number of px")
    rle = _rle(one.get("segmentation"), image, fail) if wants_masks else None
    return TrueObject(names[one["category_id"]], (left, top, right, bottom), rle, float(area), bool(one.get("iscrowd")))


def _box(box: Any, fail: _Fail, *, needed: bool) -> tuple[float, float, float, float]:
    if box is None and not needed:
        return 0.0, 0.0, 0.0, 0.0
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(side) for side in box):
        raise fail(f"its bbox is {box!r}, not [x, y, width, height] in px")
    left, top, width, height = (float(side) for side in box)
    if width < 0 or height < 0:
        raise fail(f"its bbox is {box!r}: the width or height is negative")
    return left, top, left + width, top + height


def _rle(segmentation: Any, image: Mapping[str, Any], fail: _Fail) -> Rle:
    from pycocotools import mask as coco

    height, width = image.get("height"), image.get("width")
    if not isinstance(height, int) or not isinstance(width, int) or height <= 0 or width <= 0:
        raise fail(f"its image {image['file_name']} says no height and width, which a mask needs")
    if isinstance(segmentation, dict):
        return _coded(segmentation, height, width, fail)
    polygons = segmentation if isinstance(segmentation, list) else []
    if not polygons or not all(_is_polygon(one) for one in polygons):
        raise fail("its segmentation is neither polygons [[x, y, x, y, x, y, ...], ...] nor a run-length code")
    merged = coco.merge(coco.frPyObjects(polygons, height, width))
    return {"size": [height, width], "counts": merged["counts"].decode("ascii")}


def _coded(segmentation: Mapping[str, Any], height: int, width: int, fail: _Fail) -> Rle:
    from pycocotools import mask as coco

    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise fail(f"its mask is of size {size!r}, its image of [{height}, {width}] (height, width)")
    if isinstance(counts, list):
        if not all(isinstance(one, int) and one >= 0 for one in counts) or sum(counts) != height * width:
            raise fail(f"its runs do not add up to {height} x {width} pixels")
        return {"size": size, "counts": coco.frPyObjects(dict(segmentation), height, width)["counts"].decode("ascii")}
    if not isinstance(counts, str) or not covers(counts, height * width):
        raise fail(f"its run-length code does not cover {height} x {width} pixels")
    return {"size": size, "counts": counts}


def covers(counts: str, pixels: int) -> bool:
    """Whether COCO's compressed counts are whole and add up to that many pixels: its own decoder does not check it."""
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return False
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return shift == 0 and all(run >= 0 for run in runs) and sum(runs) == pixels


def _is_polygon(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 6 and len(value) % 2 == 0 and all(_is_number(one) for one in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
