"""What single things does a prediction claim, or nearly claim? Boxes, masks or lines, flat over many predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from winnow_workers.boxes import SOFTMIN_TEMPERATURE, areas, paired_intersection

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_EPSILON = 1e-6
_ONE_CLASS = ""
RIVALS = 32  # boxes of a prediction that others are compared with
# of a task's struct: the list, and the fields of its entries that are read
LISTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "detect": ("boxes", ("label", "score", "is_output", "box")),
    "segment": ("masks", ("label", "score", "is_output", "area_px")),
    "ocr": ("lines", ("text", "score")),
}
_ALIKE = str.maketrans(dict.fromkeys("0OoQ1lI|i5S8B2Zz6Gb9gqcCvVwWsxXuUnm.,:;'`-_", ""))  # glyphs that resemble others


@dataclass(frozen=True, slots=True)
class Parts:
    """p parts of n predictions, those of one prediction together and in the order of its row.

    `owners` (p,): the prediction that each belongs to, ascending. `classes` (p,) str; `claimed` (p,): whether it is put
    out, or only stands in the row because it nearly was. `columns`: name -> (p,), higher meaning surer; `score` is one
    of them. `ok` (p,), where it is known: whether it is right, and no stronger one of its prediction is the same.
    """

    n: int
    owners: Ints
    classes: npt.NDArray[np.str_]
    claimed: Bools
    columns: Mapping[str, Floats]
    ok: Bools | None = None

    def __len__(self) -> int:
        return len(self.owners)

    def take(self, chosen: npt.NDArray[Any]) -> "Parts":
        """Those of the predictions at these places (each at most once), or where a mask over predictions is true."""
        places = np.arange(self.n)[chosen]
        anew = np.full(self.n, -1, np.int64)
        anew[places] = np.arange(len(places))
        kept = np.flatnonzero(anew[self.owners] >= 0)
        kept = kept[np.argsort(anew[self.owners[kept]], kind="stable")]
        return Parts(
            len(places),
            anew[self.owners[kept]],
            self.classes[kept],
            self.claimed[kept],
            {name: column[kept] for name, column in self.columns.items()},
            None if self.ok is None else self.ok[kept],
        )


def parts_of(operator: str, rows: pa.ChunkedArray | pa.StructArray) -> Parts:
    """The parts of a task's structs, of an operator in LISTS. Of text, only lines in which something was read."""
    field, _ = LISTS[operator]
    lists = pc.struct_field(rows, field)
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    owners = np.asarray(pc.list_parent_indices(lists), np.int64)
    entries = pc.list_flatten(lists)
    if operator == "ocr":
        return _lines(len(lists), owners, entries)
    score = _numbers(entries, "score")
    columns = {"score": score, "log_score": log(score), "log_rest": -log(1.0 - score)}
    if operator == "segment":
        columns["log_area"] = np.log1p(_numbers(entries, "area_px"))
    if operator == "detect":
        columns["apart"] = _apart(len(lists), owners, _corners(entries), score)
    is_output = pc.fill_null(pc.struct_field(entries, "is_output").cast(pa.bool_()), pa.scalar(value=True)).to_numpy(
        zero_copy_only=False
    )
    names = pc.fill_null(pc.struct_field(entries, "label").cast(pa.string()), _ONE_CLASS).to_numpy(zero_copy_only=False)
    return Parts(len(lists), owners, names.astype(np.str_), is_output.astype(np.bool_), columns)


def _corners(entries: pa.StructArray) -> npt.NDArray[np.float32]:
    """(p, 4) xyxy px; a box that is null has no area."""
    boxes = pc.fill_null(pc.list_flatten(pc.struct_field(entries, "box")).cast(pa.float32()), 0.0)
    found = np.zeros((len(entries), 4), np.float32)
    found[pc.is_valid(pc.struct_field(entries, "box")).to_numpy(zero_copy_only=False)] = boxes.to_numpy(
        zero_copy_only=False
    ).reshape(-1, 4)
    return found


def _apart(n: int, owners: Ints, boxes: npt.NDArray[np.float32], scores: Floats) -> Floats:
    """(p,): minus the greatest IoU times score of another of the first RIVALS boxes of the same prediction.

    Two boxes over each other compete for one thing, or hide one another. Rows have the strongest boxes first.
    """
    counts = np.bincount(owners, minlength=n)
    first = np.cumsum(counts) - counts
    found = np.zeros(len(owners))
    size = areas(boxes)
    for place in range(min(RIVALS, int(counts.max(initial=0)))):
        rivals = first[owners] + place
        pairs = np.flatnonzero((place < counts[owners]) & (rivals != np.arange(len(owners))))
        other = rivals[pairs]
        common = areas(paired_intersection(boxes[pairs], boxes[other]))
        iou = common / np.clip(size[pairs] + size[other] - common, 1e-9, None)
        found[pairs] = np.maximum(found[pairs], iou * scores[other])
    return -found


def _lines(n: int, owners: Ints, entries: pa.StructArray) -> Parts:
    """`log_joint`: the mean probability of a character to the power of their number, as if they were independent."""
    texts = pc.struct_field(entries, "text").to_pylist()
    kept = np.array([bool(text) for text in texts], np.bool_)
    read = [text for text in texts if text]
    score = _numbers(entries, "score")[kept]
    lengths = np.array([len(text) for text in read], np.float64)
    columns = {
        "score": score,
        "log_score": log(score),
        "log_rest": -log(1.0 - score),
        "log_joint": lengths * log(score),
        "short": -np.log1p(lengths),
        "clear": -np.array([len(text) - len(text.translate(_ALIKE)) for text in read], np.float64),
    }
    return Parts(n, owners[kept], np.full(len(read), _ONE_CLASS), np.ones(len(read), np.bool_), columns)


def summary(parts: Parts, probabilities: Floats) -> dict[str, Floats]:
    """What `probabilities` (p,) of being right say of each of the n predictions, in columns of (n,).

    `log_claims`: that all that is put out is right, were they independent; `log_rest_wrong`: that nothing that was held
    back is; `log_all`: both. `softmin`: the soft minimum over what is put out and 1 - the likeliest that is not, as
    ObjectLab has it (Tkachenko et al., 2023). `weakest`: the least of what is put out, 1 without any. `few`: minus how
    many are put out.
    """
    claimed, owners, n = parts.claimed, parts.owners, parts.n
    claims = _sums(owners[claimed], log(probabilities[claimed]), n)
    rest = _sums(owners[~claimed], log(1.0 - probabilities[~claimed]), n)
    likeliest = np.zeros(n)
    np.maximum.at(likeliest, owners[~claimed], probabilities[~claimed])
    weakest = np.ones(n)
    np.minimum.at(weakest, owners[claimed], probabilities[claimed])
    return {
        "log_all": claims + rest,
        "log_claims": claims,
        "log_rest_wrong": rest,
        "softmin": _softmin(
            np.append(owners[claimed], np.arange(n)), np.append(probabilities[claimed], 1 - likeliest), n
        ),
        "weakest": weakest,
        "few": -_sums(owners[claimed], np.ones(int(claimed.sum())), n),
    }


def _softmin(owners: Ints, values: Floats, n: int) -> Floats:
    """(n,): as `boxes.softmin`, over the values of each owner, which has one at least."""
    lowest = np.full(n, np.inf)
    np.minimum.at(lowest, owners, values)
    weights = np.exp((lowest[owners] - values) / SOFTMIN_TEMPERATURE)
    found: Floats = _sums(owners, weights * values, n) / _sums(owners, weights, n)
    return found


def _sums(owners: Ints, values: Floats, n: int) -> Floats:
    return np.bincount(owners, values, minlength=n).astype(np.float64)


def log(values: Floats) -> Floats:
    """The logarithm, of a millionth at least."""
    found: Floats = np.log(np.clip(values, _EPSILON, None))
    return found


def _numbers(entries: pa.StructArray, name: str) -> Floats:
    filled = pc.fill_null(pc.struct_field(entries, name).cast(pa.float64()), float("nan"))
    found: Floats = filled.to_numpy(zero_copy_only=False)
    return found
