"""When is a prediction right? The acceptance test of each kind of task, once: `p_ok` is the probability of this.

| operator | an item's prediction is accepted if |
|---|---|
| classify, one label | the predicted label is the true one |
| classify, a tree of labels | the predicted node is the true one, or lies above it |
| classify, several labels | the predicted set of labels is exactly the true one |
| detect | of the boxes that are put out, each covers a true box of its label at IoU 0.5 (or lies in a crowd of \
it), and no true box is left |
| segment | the mean IoU over the classes that are in the truth or the prediction is at least tau; nothing where \
nothing is, is right |
| ocr | the whole text is the true one, character by character, after the stated normalisation |
| anomaly | the verdict, good or defect, is the true one |
| embed | the nearest of its neighbours that people could judge shows the same |

A task that failed on an item has given no acceptable prediction of it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from winnow_workers.evaluation.boxes import MATCH_IOU, Objects, match
from winnow_workers.evaluation.masks import Overlap, item_iou
from winnow_workers.evaluation.texts import Normalisation, TextErrors


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the tests leave open: `box_threshold`, `box_iou` and `mask_iou` (tau), and how texts are compared.

    Boxes that score less than `box_threshold` are no claims; where it is None, those that their task held back.
    """

    box_threshold: float | None = None
    box_iou: float = MATCH_IOU
    mask_iou: float = 0.5
    normalisation: Normalisation = field(default_factory=Normalisation)


def label_ok(true: str, predicted: str | None) -> bool:
    """Classify with one label."""
    return predicted is not None and true == predicted


def labels_ok(true: Collection[str], predicted: Collection[str]) -> bool:
    """Classify with several labels."""
    return set(true) == set(predicted)


def node_ok(true_path: Sequence[str], predicted: str | None) -> bool:
    """Classify with a tree: `true_path` leads from the top to the true label."""
    return predicted is not None and predicted in true_path


def boxes_ok(true: Objects, predicted: Objects, acceptance: Acceptance) -> bool:
    """Detect."""
    found = match(true, predicted.claims(acceptance.box_threshold), iou=acceptance.box_iou)
    return not found.missed and not found.extra


def masks_ok(found: Mapping[str, Overlap], acceptance: Acceptance) -> bool:
    """Segment."""
    return item_iou(found) >= acceptance.mask_iou


def text_ok(errors: TextErrors) -> bool:
    """Ocr: `errors` were counted after the normalisation."""
    return errors.is_exact


def verdict_ok(*, true: bool, predicted: bool | None) -> bool:
    """Anomaly."""
    return predicted is not None and true == predicted


def neighbours_ok(same: Sequence[bool]) -> bool:
    """Embed: `same` of each neighbour, the nearest first."""
    return bool(same) and same[0]
