"""How is a truth read from a folder? Index masks, texts, and good and defective images as MVTec AD lays them out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from winnow_jobs.evaluation.true_items import Rle, TrueItem, TruthSet
from winnow_storage.errors import UsageError
from winnow_storage.schemas import IMAGE_SUFFIXES

IGNORED = 255  # of an index mask: the value that counts neither way, as VOC and Cityscapes have it
GOOD = "good"


def read_texts(place: Path, _classes: Sequence[str]) -> TruthSet:
    """One UTF-8 .txt per image, named like it.

    Raises:
        UsageError: a file is not UTF-8, or there is none.
    """
    items = {}
    for file in sorted(place.rglob("*.txt")):
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is not UTF-8 ({error.reason})", hint="save it as UTF-8") from error
        items[_stem(file, place)] = TrueItem(text=text)
    return TruthSet(_some(items, place, "*.txt"), str(place), is_stem=True)


def read_index_masks(place: Path, classes: Sequence[str]) -> TruthSet:
    """One PNG per image, whose values are 0 for nothing, 1, 2, ... for `classes`, 255 for pixels that do not count.

    Raises:
        UsageError: no classes are named, or a file is no index mask of them.
    """
    if not classes:
        raise UsageError(
            f"{place}: index masks say numbers, not classes",
            hint="add --classes NAME,NAME,... for the values 1, 2, ...",
        )
    items = {}
    for file in sorted(place.rglob("*.png")):
        values = _pixels(file)
        known = np.isin(values, [*range(len(classes) + 1), IGNORED]) if values.ndim == 2 else np.zeros(1, np.bool_)
        if not known.all():
            raise UsageError(
                f"{file}: shape {values.shape}, highest value {int(values.max(initial=0))}",
                hint=f"an index mask has one channel with values up to {len(classes)} ({', '.join(classes)}), or 255",
            )
        found = {
            label: _encoded(values == number) for number, label in enumerate(classes, 1) if (values == number).any()
        }
        ignored = _encoded(values == IGNORED) if (values == IGNORED).any() and len(classes) < IGNORED else None
        items[_stem(file, place)] = TrueItem(masks=found, ignored=ignored)
    return TruthSet(_some(items, place, "*.png"), str(place), is_stem=True, classes=tuple(classes))


def read_verdict_folders(place: Path, _classes: Sequence[str]) -> TruthSet:
    """Images in a folder per kind, `good` among them; all others are defects.

    The folder may be `test` of an MVTec AD category, or the category: `ground_truth/KIND/NAME_mask.png` beside it says
    where a defect is.

    Raises:
        UsageError: there is no folder `good`, or no image.
    """
    root = place / "test" if (place / "test" / GOOD).is_dir() else place
    if not (root / GOOD).is_dir():
        raise UsageError(
            f"{place} has no folder {GOOD!r}",
            hint=f"put images into {GOOD}/ and one folder per kind of defect, or give a CSV key,anomalous",
        )
    masks = next((one for one in (root / "ground_truth", root.parent / "ground_truth") if one.is_dir()), None)
    items, without = {}, 0
    for file in sorted(root.rglob("*")):
        kind = file.relative_to(root).parts[0]
        if kind == "ground_truth" or file.suffix.lstrip(".").lower() not in IMAGE_SUFFIXES or file.parent == root:
            continue
        mask = None if masks is None or kind == GOOD else _mask_of(masks / file.relative_to(root))
        without += masks is not None and kind != GOOD and mask is None
        items[str(file.relative_to(root).as_posix())] = TrueItem(anomalous=kind != GOOD, anomalous_where=mask)
    notes = (f"{without:,} defects without a mask are left out of the pixels' measures",) if without else ()
    return TruthSet(_some(items, root, "images"), str(place), has_where=masks is not None, notes=notes)


def anomalous_pixels(file: Path) -> npt.NDArray[np.bool_]:
    """(height, width): where the mask is not black.

    Raises:
        UsageError: it cannot be read.
    """
    values = _pixels(file)
    return np.asarray(values.max(axis=2) if values.ndim == 3 else values) > 0


def _mask_of(path: Path) -> Path | None:
    names = (f"{path.stem}_mask.png", f"{path.stem}.png", path.name)
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _pixels(file: Path) -> npt.NDArray[np.integer[Any]]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return np.asarray(image)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UsageError(f"{file} cannot be read: {error}", hint="save it as PNG again") from error


def _encoded(mask: npt.NDArray[np.bool_]) -> Rle:
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def _stem(file: Path, root: Path) -> str:
    return file.relative_to(root).with_suffix("").as_posix()


def _some(items: dict[str, TrueItem], place: Path, what: str) -> dict[str, TrueItem]:
    if not items:
        raise UsageError(f"{place} holds no {what}", hint="name the folder that holds them")
    return items
