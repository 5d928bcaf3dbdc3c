"""Which random draws did people answer, and was the prediction right? Routes of earlier runs joined with labels.

Draws are of purpose `calibrate` (of all predictions) or `audit` (of the accepted). An item whose task a person had
answered before the present model first ran is left out: its label may have taught or chosen that model.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from winnow_annotation.wishes import Predictions
from winnow_jobs.consensus.answers import with_one_answer
from winnow_jobs.evaluation.compare import OPERATORS, Pair
from winnow_jobs.evaluation.measure_objects import said_boxes, true_objects
from winnow_jobs.evaluation.true_items import TrueItem, TruthSet
from winnow_jobs.evaluation.truth_people import from_labels
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.routes import is_routed, iter_sent, questions_of
from winnow_jobs.runs import PlanDocument
from winnow_jobs.verify.labels import read_labels
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.records import Label
from winnow_storage.schemas import BOX_XYXY_PX, Route
from winnow_workers.evaluation.acceptance import Acceptance, neighbours_ok
from winnow_workers.evaluation.boxes import match

_COLUMNS = ("task", "route", "reason", "item_id", "key", "version", "prediction", "inclusion")
_NAMED = [("label", pa.string()), ("score", pa.float32())]
_PART = [*_NAMED, ("is_output", pa.bool_())]
_OF_ALL = [("score", pa.float32()), ("p_ok", pa.float32())]
# of a task's struct, what ranks and calibrators look at: all of `features.fields_of`, and of lists of `parts.LISTS`; by
# operator, for one of somebody's own may have further fields, of other types than those of another operator
_TYPES: Mapping[str, list[tuple[str, pa.DataType]]] = {
    "classify": [
        ("label", pa.string()),
        ("margin", pa.float32()),
        ("entropy", pa.float32()),
        ("top", pa.list_(pa.struct(_NAMED))),
    ],
    "detect": [("boxes", pa.list_(pa.struct([*_PART, ("box", BOX_XYXY_PX)])))],
    "segment": [
        ("masks", pa.list_(pa.struct([*_PART, ("area_px", pa.int64())]))),
        ("boundary_entropy", pa.float32()),
    ],
    "ocr": [("lines", pa.list_(pa.struct([("text", pa.string()), ("score", pa.float32())])))],
    "anomaly": [("is_anomalous", pa.bool_())],
}


@dataclass(frozen=True, slots=True)
class Draw:
    """A drawn prediction that people answered: whether it passes its acceptance test, and its loss in [0, 1]."""

    key: str
    item_id: str
    run_id: str
    begun_at: datetime
    reason: str
    inclusion: float | None
    struct: Mapping[str, Any]
    truth: TrueItem
    ok: bool
    loss: float


@dataclass(frozen=True, slots=True)
class DrawSet:
    """The answered draws of one task and purpose, and how many more were drawn, or answered too early to count."""

    draws: tuple[Draw, ...] = ()
    drawn: int = 0
    set_aside: int = 0
    runs: tuple[str, ...] = ()

    def structs(self, operator: str) -> pa.StructArray:
        """(n,) the predictions, with what ranks and calibrators look at; of this type even if there is none."""
        # what it has no place for, such as the pixels of masks, is left out
        return pa.array([one.struct for one in self.draws], pa.struct([*_OF_ALL, *_TYPES.get(operator, ())]))

    def predictions(self, operator: str, rows: pa.StructArray) -> Predictions:
        """(n,) as policies see them; `rows` are its `structs`, perhaps with another p_ok."""
        keys, items = (pa.array([getattr(one, name) for one in self.draws], pa.string()) for name in ("key", "item_id"))
        versions = pa.nulls(len(keys), pa.string())  # which no policy looks at
        return Predictions(items, versions, rows.field("score"), rows.field("p_ok"), None, operator, rows, keys)


def all_labels(store: BlobStore) -> list[Label]:
    """Every label event in the bucket; of several people about an item each says what all together say.

    Of embeddings each says its own: which neighbours they are of is not known here.

    Raises:
        StoreError: an object among them is damaged: an answer that is not counted could make a promise too bold.
    """
    labels, findings = read_labels(store)
    for finding in findings:
        raise StoreError(f"{store.root}/{finding.key}: {finding.what}", hint=finding.next)
    alone, several = ([one for one in labels if (one.operator == "embed") is wanted] for wanted in (True, False))
    return [*with_one_answer(store, several), *alone]


def answered_draws(
    store: BlobStore,
    plans: Sequence[PlanDocument],
    task: ResolvedTask,
    labels: Sequence[Label],
    purpose: Route,
    wanted: Acceptance,
) -> DrawSet:
    """Those of the runs of `plans` whose predictions are by the task's present model and parameters.

    `wanted`: what is asked of a prediction to be right.
    """
    own = [plan for plan in plans if (task.name, task.digest) in _tasks(plan) and is_routed(store, plan.run_id)]
    if task.kind == "embed":  # what was said of other vectors' neighbours says nothing of these
        asked = questions_of(store, (plan.run_id for plan in own))
        labels = with_one_answer(store, [label for label in labels if label.dedupe_key in asked])
    truth = _truth(labels, task, purpose)
    early = answered_before(labels, task, plans)
    measure = OPERATORS[task.kind](wanted)
    found: dict[str, Draw] = {}
    drawn, set_aside = 0, set[str]()
    for plan in own:
        for row in iter_sent(store, plan.run_id, _COLUMNS):
            if (row["task"], row["route"]) != (task.name, str(purpose)):
                continue
            drawn += 1
            true = truth.items.get(row["key"])
            if true is None or truth.versions.get(row["key"]) != row["version"]:
                continue
            if row["key"] in early:
                set_aside.add(row["key"])
                continue
            struct = json.loads(row["prediction"])
            judged = measure.add(Pair(row["key"], true, struct))
            loss = _loss(task.kind, ok=judged.ok, value=judged.value)
            place = (plan.run_id, plan.created_at, row["reason"], row.get("inclusion"))
            found[row["key"]] = Draw(row["key"], row["item_id"], *place, struct, true, judged.ok, loss)
    ordered = tuple(found[key] for key in sorted(found))
    return DrawSet(ordered, drawn, len(set_aside), tuple(plan.run_id for plan in own))


def answered_before(labels: Iterable[Label], task: ResolvedTask, plans: Sequence[PlanDocument]) -> set[str]:
    """Items with an answer from before the first run of the present model, where another model ran before it."""
    named = [plan for plan in plans if task.name in {one.name for one in plan.tasks()}]
    begun = next((plan.created_at for plan in named if (task.name, task.digest) in _tasks(plan)), None)
    if begun is None or (task.name, task.digest) in _tasks(named[0]):
        return set()
    return {
        label.key
        for label in labels
        if label.task == task.name and label.created_at is not None and label.created_at < begun
    }


def is_harmful(operator: str, truth: TrueItem, harmful: Collection[str]) -> bool:
    """Whether an item is truly what `min_recall` is about."""
    if operator == "anomaly":
        return bool(truth.anomalous)
    if operator == "detect":
        return any(one.label in harmful for one in truth.objects or ())
    return truth.label in harmful


def class_of(operator: str, truth: TrueItem) -> str:
    """What people saw, as one word to count: of several classes in an image all of them together."""
    if operator == "anomaly":
        return "anomalous" if truth.anomalous else "normal"
    if operator == "ocr":
        return "text" if truth.text else "no text"
    if operator == "embed":
        return "nearest is the same" if neighbours_ok(truth.neighbours or ()) else "nearest is different"
    several = {
        "detect": {one.label for one in truth.objects or ()},
        "segment": set(truth.masks or ()),
    }.get(operator, set(truth.labels or ()))
    return truth.label or ", ".join(sorted(several)) or "nothing"


def missed_positive(operator: str, draw: Draw, harmful: Collection[str]) -> bool | None:
    """Whether something was there that the prediction does not say; None where the task knows no positives."""
    if operator == "anomaly":
        return bool(draw.truth.anomalous) and not draw.struct.get("is_anomalous")
    if operator == "detect":
        return bool(match(true_objects(draw.truth), said_boxes(draw.struct).claims(None)).missed)
    if operator == "classify" and harmful:
        return draw.truth.label in harmful and draw.struct.get("label") not in harmful
    return None


def _tasks(plan: PlanDocument) -> set[tuple[str, str]]:
    return {(task.name, task.digest) for task in plan.tasks()}


def _truth(labels: Iterable[Label], task: ResolvedTask, purpose: Route) -> TruthSet:
    try:
        return from_labels(labels, task.name, task.kind, [str(purpose)])
    except UsageError:
        return TruthSet({}, "labels")


def _loss(operator: str, *, ok: bool, value: float) -> float:
    if operator in ("detect", "segment"):
        return min(1.0, max(0.0, 1.0 - value))
    if operator == "ocr" and not math.isnan(value):  # which it is without true text
        return min(1.0, value)
    return float(not ok)
