"""How do masks become pictures? One indexed PNG for each item, 0 being nothing, with a palette; a list of labels."""

import colorsys
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from winnow_annotation.kinds.masks import from_coco
from winnow_jobs.label_export.answers import Agreed
from winnow_jobs.label_export.coco import frame_of
from winnow_storage.errors import UsageError

MOST_LABELS = 254  # 0 is nothing, 255 stands for pixels that do not count
_GOLDEN = 0.618033988749895  # hues that it is added to lie far from each other

Values = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Painted:
    """(height, width) numbers of labels; `overlaps` says that some pixels have more than one."""

    values: Values
    overlaps: bool


def painted(one: Agreed, numbers: Mapping[str, int]) -> Painted | None:
    """The masks of an item, small ones above large ones; None where nothing tells how large the image is."""
    frame = frame_of(one)
    if frame is None:
        return None
    masks = [(str(mask["label"]), from_coco(mask["rle"])[0]) for mask in one.value.get("masks") or []]
    values, count = np.zeros(frame, np.uint8), np.zeros(frame, np.uint8)
    for label, mask in sorted(masks, key=lambda each: -int(each[1].sum())):
        values[mask] = numbers[label]
        count += mask
    return Painted(values, bool((count > 1).any()))


def png(values: Values, palette: Sequence[int]) -> bytes:
    """The bytes of an indexed PNG."""
    image = Image.fromarray(values)
    image.putpalette(list(palette))  # which makes it an indexed one
    sink = io.BytesIO()
    image.save(sink, "PNG", optimize=True)
    return sink.getvalue()


def numbered(labels: Sequence[str]) -> dict[str, int]:
    """The value of each label.

    Raises:
        UsageError: there are more than a PNG can tell apart.
    """
    if len(labels) > MOST_LABELS:
        raise UsageError(
            f"there are {len(labels)} labels, and an indexed PNG tells {MOST_LABELS} apart", hint="take --format coco"
        )
    return {label: number for number, label in enumerate(labels, 1)}


def palette_of(count: int) -> list[int]:
    """Red, green and blue of 256 values: black, then a colour for each label, then white."""
    colours = [(0.0, 0.0, 0.0)]
    colours += [colorsys.hsv_to_rgb(number * _GOLDEN % 1.0, 0.75, 0.95) for number in range(count)]
    colours += [(1.0, 1.0, 1.0)] * (256 - len(colours))
    return [round(255 * part) for colour in colours for part in colour]


def labels_csv(numbers: Mapping[str, int], palette: Sequence[int]) -> str:
    """Which value is which label, and its colour."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["value", "label", "red", "green", "blue"])
    for label, number in numbers.items():
        writer.writerow([number, label, *palette[3 * number : 3 * number + 3]])
    return sink.getvalue()
