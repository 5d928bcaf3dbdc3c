"""How is a view searched, whole or in tiles? Every window is a view of its own; what they show is put together."""

from collections.abc import Sequence

import numpy as np

from winnow_workers.detectors.detector import Detector
from winnow_workers.detectors.found import Found, joined, strongest
from winnow_workers.masks import united
from winnow_workers.operator import View
from winnow_workers.tiles import Group, Look, Tiling, at_full_size, looks_of, merge


def look_everywhere(
    detector: Detector, views: Sequence[View], tiling: Tiling | None, *, most: int, floor: float
) -> list[Found]:
    """What the detector finds in every view, at most `most` in each."""
    if tiling is None:
        return detector.find(views)
    return [_tiled(detector, view, tiling, most=most, floor=floor) for view in views]


def _tiled(detector: Detector, view: View, tiling: Tiling, *, most: int, floor: float) -> Found:
    view = at_full_size(view)
    width, height = view.width_px, view.height_px
    windows = looks_of(width, height, tiling)
    looks: list[Look] = []
    size = detector.batch_size
    for start in range(0, len(windows), size):
        part = windows[start : start + size]
        tiles = [
            View(view.pixels[one.top : one.top + one.height, one.left : one.left + one.width], one.width, one.height)
            for one in part
        ]
        for window, found in zip(part, detector.find(tiles), strict=True):
            looks.append(Look(window, found.moved(window.left, window.top)))
    if len(looks) == 1:
        return looks[0].found
    groups = merge(looks, width_px=width, height_px=height, max_iou=detector.max_iou)
    return strongest(_together(looks, groups, view), most=most, floor=floor)


def _together(looks: Sequence[Look], groups: Sequence[Group], view: View) -> Found:
    """One finding per group: class and score of its strongest member, the box around it, all its masks united."""
    everything = joined([look.found for look in looks])
    firsts = everything.take(np.array([group.members[0] for group in groups], np.int64))
    boxes = np.array([group.box for group in groups], np.float32).reshape(-1, 4)
    masks = None
    if everything.masks is not None:
        masks = tuple(
            united(
                [everything.masks[index] for index in group.members], width_px=view.width_px, height_px=view.height_px
            )
            for group in groups
        )
    return Found(boxes, firsts.classes, firsts.scores, masks, everything.cut)
