"""How good are boxes, and how good are masks?"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from winnow_jobs.evaluation.measure import Indices, Judged, Measure, Pair, Statistic, Struct
from winnow_jobs.evaluation.true_items import TrueItem
from winnow_storage.errors import UsageError
from winnow_workers.evaluation import acceptance, classes, masks
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.boxes import NOTHING, Objects, match, right_boxes
from winnow_workers.evaluation.calibration_error import expected_calibration_error

CLAIM_SCORE = 0.5  # from which on a box is a claim where nothing says whether it is put out, as of COCO's results


class DetectMeasure(Measure):
    """The mAP over all boxes; precision and recall over those that are claims."""

    value_name: ClassVar[str] = "F1 of its boxes"

    def __init__(self, wanted: Acceptance) -> None:
        super().__init__(wanted)
        self._pairs: list[tuple[Objects, Objects]] = []
        self._hits = self._extra = self._missed = self._unsaid = 0
        self._per_class: dict[str, float] = {}

    def add(self, pair: Pair) -> Judged:
        """F1 is 1 where there is nothing and nothing was claimed."""
        true, said = true_objects(pair.truth), said_boxes(pair.struct)
        self._pairs.append((true, said))
        self._unsaid += sum(one.get("is_output") is None for one in _listed(pair.struct, "boxes"))
        found = match(true, said.claims(self.wanted.box_threshold), iou=self.wanted.box_iou)
        self._hits += found.right
        self._extra += found.extra
        self._missed += len(found.missed)
        total = 2 * found.right + found.extra + len(found.missed)
        ok = pair.struct is not None and acceptance.boxes_ok(true, said, self.wanted)
        return Judged(ok, 2 * found.right / total if total else float(pair.struct is not None))

    def measures(self) -> dict[str, float]:
        """COCO's, and those of the claims."""
        summary, self._per_class = _coco_map(self._pairs, "bbox")
        hits = self._hits
        one = classes.score_of("", hits=hits, support=hits + self._missed, predicted=hits + self._extra)
        scores, right = right_boxes(self._pairs, iou=self.wanted.box_iou)
        is_probability = len(scores) > 0 and scores.min() >= 0.0 and scores.max() <= 1.0
        # D-ECE (Kueppers et al., 2020): is a box with score 0.8 right in 80 of 100 cases?
        d_ece = {"d_ece": expected_calibration_error(scores, right)} if is_probability else {}
        return summary | {"precision": one.precision, "recall": one.recall, "f1": one.f1} | d_ece

    def tables(self) -> dict[str, Any]:
        """[label, AP@[.5:.95]] of every class."""
        return {"ap_per_class": [list(one) for one in sorted(self._per_class.items())]}

    def notes(self) -> list[str]:
        """How boxes were taken that are neither put out nor held back."""
        if not self._unsaid or self.wanted.box_threshold is not None:
            return []
        said = (
            f"{self._unsaid:,} boxes do not say whether they are put out (is_output): those that score at least "
            f"{CLAIM_SCORE:g} are taken for claims; --box-threshold sets it"
        )
        return [said]

    def statistics(self) -> dict[str, Statistic]:
        """The mAP of drawn images."""
        return {"map": lambda chosen: _coco_map([self._pairs[at] for at in chosen], "bbox")[0]["map"]}


class SegmentMeasure(Measure):
    """IoU and Dice of classes; the mAP of masks too, where both sides tell single objects apart."""

    value_name: ClassVar[str] = "mean IoU of its classes"

    def __init__(self, wanted: Acceptance) -> None:
        super().__init__(wanted)
        self._items: list[dict[str, masks.Overlap]] = []
        self._pairs: list[tuple[Objects, Objects]] = []
        self._has_instances = False

    def add(self, pair: Pair) -> Judged:
        """Its mean IoU over the classes that are in the truth or the prediction.

        Raises:
            UsageError: the masks of the two are not of one size.
        """
        said = said_masks(pair.struct)
        try:
            found = masks.overlaps(pair.truth.masks or {}, said, ignored=pair.truth.ignored)
        except ValueError as error:
            raise UsageError(
                f"{pair.key}: {error}", hint="masks of the truth must be of the upright image's size"
            ) from error
        self._items.append(found)
        listed = _listed(pair.struct, "masks")
        self._has_instances |= len(listed) > len(said)
        if pair.truth.objects is not None:
            self._pairs.append((true_objects(pair.truth), _mask_objects(listed)))
        ok = pair.struct is not None and acceptance.masks_ok(found, self.wanted)
        return Judged(ok, masks.item_iou(found) if pair.struct is not None or found else 0.0)

    def measures(self) -> dict[str, float]:
        """Over all pixels, and over items."""
        summed = masks.totals(self._items)
        found = {
            "mean_iou": masks.mean_iou(summed),
            "mean_dice": masks.mean_dice(summed),
            "mean_item_iou": masks.mean_item_iou(self._items),
        }
        if self._has_instances and self._pairs:
            summary, _ = _coco_map(self._pairs, "segm")
            found |= {f"mask_{name}": value for name, value in summary.items()}
        return found

    def tables(self) -> dict[str, Any]:
        """[label, IoU, Dice] of every class."""
        rows = [[label, one.iou, one.dice] for label, one in masks.totals(self._items).items()]
        return {"iou_dice_per_class": rows}

    def statistics(self) -> dict[str, Statistic]:
        """The two means of drawn items."""
        return {
            "mean_iou": lambda chosen: masks.mean_iou(masks.totals(self._drawn(chosen))),
            "mean_item_iou": lambda chosen: masks.mean_item_iou(self._drawn(chosen)),
        }

    def _drawn(self, chosen: Indices) -> list[dict[str, masks.Overlap]]:
        return [self._items[at] for at in chosen]


def true_objects(truth: TrueItem) -> Objects:
    """The objects of an item as the measures take them."""
    objects = truth.objects or ()
    rles = tuple(one.rle for one in objects)
    return Objects(
        np.array([one.box for one in objects], np.float64).reshape(-1, 4),
        tuple(one.label for one in objects),
        crowd=np.array([one.crowd for one in objects], np.bool_),
        areas=np.array([one.area for one in objects], np.float64),
        rles=rles if all(rle is not None for rle in rles) else None,
    )


def said_boxes(struct: Struct) -> Objects:
    """The boxes of a prediction, and which of them are put out."""
    boxes = _listed(struct, "boxes")
    if not boxes:
        return NOTHING
    return Objects(
        np.array([one["box"] for one in boxes], np.float64).reshape(-1, 4),
        tuple(one["label"] for one in boxes),
        np.array([one["score"] for one in boxes], np.float64),
        put_out=np.array([_is_put_out(one) for one in boxes], np.bool_),
    )


def said_masks(struct: Struct) -> dict[str, Any]:
    """The masks of a prediction that are put out, one per label: objects of a label joined."""
    by_label: dict[str, list[Any]] = {}
    for one in _listed(struct, "masks"):
        if one.get("is_output") is not False:
            by_label.setdefault(one["label"], []).append(one["rle"])
    return {label: rles[0] if len(rles) == 1 else masks.union(rles) for label, rles in by_label.items()}


def _listed(struct: Struct, name: str) -> Sequence[Mapping[str, Any]]:
    return (struct or {}).get(name) or []


def _is_put_out(box: Mapping[str, Any]) -> bool:
    said = box.get("is_output")
    return bool(box["score"] >= CLAIM_SCORE if said is None else said)


def _mask_objects(listed: Sequence[Any]) -> Objects:
    scores = [0.0 if one.get("score") is None else float(one["score"]) for one in listed]
    return Objects(
        np.zeros((len(listed), 4)),
        tuple(one["label"] for one in listed),
        np.array(scores, np.float64),
        rles=tuple(one["rle"] for one in listed),
    )


def _coco_map(pairs: Sequence[tuple[Objects, Objects]], kind: Any) -> tuple[dict[str, float], dict[str, float]]:
    from winnow_workers.evaluation.coco_map import coco_map

    return coco_map(pairs, kind)
