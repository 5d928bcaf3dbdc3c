"""Which boxes, masks or lines of a prediction are right? From its struct and what is true, in a label's value.

| operator | a part is right if |
|---|---|
| detect | it covers a true box of its label at IoU 0.5 that no stronger box of the image has taken |
| segment | it is all that is put out of its label: IoU with the true mask of at least tau; one of several, or held \
back: at least that share of it is true, and not under what is put out |
| ocr | its words stand one after another in the true text, where no line before it was found |

A box in a crowd of its label, and a mask all of whose pixels lie in crowds, is right where it is put out, and nothing
missed where it is not. Of other masks the pixels in crowds count neither way.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from winnow_jobs.acceptance import WANTED, Value, true_boxes
from winnow_jobs.evaluation.measure_objects import said_boxes, said_masks
from winnow_workers.evaluation import masks
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.boxes import match


def parts_right(operator: str, prediction: Value, true: Value, wanted: Acceptance = WANTED) -> list[bool] | None:
    """One verdict for each part, in the order of the row; None where the truth, or the operator, gives none.

    Of text, lines in which nothing was read have no verdict.
    """
    test = _TESTS.get(operator)
    return None if test is None else test(prediction, true, wanted)


def _boxes(prediction: Value, true: Value, wanted: Acceptance) -> list[bool] | None:
    if true.get("boxes") is None:
        return None
    said = said_boxes(prediction)
    found = match(true_boxes(true), said, iou=wanted.box_iou).matched
    return [at >= 0 or (at == -2 and claimed) for at, claimed in zip(found, said.is_claim.tolist(), strict=True)]


def _masks(prediction: Value, true: Value, wanted: Acceptance) -> list[bool] | None:
    if true.get("masks") is None:
        return None
    listed: Sequence[Mapping[str, Any]] = prediction.get("masks") or []
    there, put_out = said_masks(true), said_masks(prediction)
    crowds = true.get("ignored")
    claims = [one.get("is_output") is not False for one in listed]
    claimed_labels = [one["label"] for one, claimed in zip(listed, claims, strict=True) if claimed]
    found = []
    for one, claimed in zip(listed, claims, strict=True):
        label, rle = one["label"], one["rle"]
        if crowds is not None and not masks.overlaps({}, {label: rle}, ignored=crowds):
            found.append(claimed)
        elif label not in there:
            found.append(False)
        elif claimed and claimed_labels.count(label) == 1:
            found.append(_share(there[label], rle, of_both=True, crowds=crowds) >= wanted.mask_iou)
        else:
            hidden = None if claimed else put_out.get(label)
            found.append(_share(there[label], rle, of_both=False, crowds=crowds, hidden=hidden) >= wanted.mask_iou)
    return found


def _share(
    true: masks.Rle, said: masks.Rle, *, of_both: bool, crowds: masks.Rle | None, hidden: masks.Rle | None = None
) -> float:
    """What is common, over the union (`of_both`) or over what is said, outside `crowds`.

    Pixels of `hidden` are never common.
    """
    whole = masks.overlaps({"": true}, {"": said}, ignored=crowds).get("")
    if whole is None or not whole.predicted:
        return 0.0
    if of_both:
        return whole.iou
    if hidden is None:
        return whole.intersection / whole.predicted
    covered = hidden if crowds is None else masks.union([hidden, crowds])
    seen = masks.overlaps({"": true}, {"": said}, ignored=covered).get("", masks.Overlap())
    return seen.intersection / whole.predicted


def _lines(prediction: Value, true: Value, wanted: Acceptance) -> list[bool] | None:
    if true.get("full_text") is None:
        return None
    free: list[str | None] = [*wanted.normalisation.apply(true["full_text"]).split()]
    read = [line["text"] for line in prediction.get("lines") or [] if line["text"]]
    return [_take(wanted.normalisation.apply(text).split(), free) for text in read]


def _take(words: list[str], free: list[str | None]) -> bool:
    """Whether the words stand in a row among the free ones, which they then take."""
    for at in range(len(free) - len(words) + 1):
        if free[at : at + len(words)] == words:
            free[at : at + len(words)] = [None] * len(words)
            return True
    return False


_TESTS: Mapping[str, Callable[[Value, Value, Acceptance], list[bool] | None]] = MappingProxyType(
    {"detect": _boxes, "segment": _masks, "ocr": _lines}
)
