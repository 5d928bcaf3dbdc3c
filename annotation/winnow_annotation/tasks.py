"""How does a prediction become a task of Label Studio, and an answer a value in our own frames? Pure, both ways."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from winnow_annotation.kinds import embed
from winnow_annotation.kinds.catalogue import kind_of
from winnow_annotation.kinds.geometry import Frame, Result
from winnow_storage.records import ReviewTask
from winnow_storage.schemas import Purpose

COMMENT = "comment"  # the field of every interface in which people may say something beside their answer
_SHORT_DIGEST = 12  # characters of a model's digest that people see
BLIND = frozenset({Purpose.AUDIT, Purpose.CALIBRATE, Purpose.GOLD, Purpose.SECOND_LOOK})

Picture = tuple[str, str, str | None]  # URI, version and format
Neighbours = Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True)
class PushItem:
    """A prediction on its way to a person: the columns of `schemas.ROUTES` that matter here.

    `route` is a `schemas.Purpose`. Those in BLIND are blind: the person does not see the prediction. Of adjudicate
    `prediction` has what people said: {answers: [{annotators, value}]}, or null.

    `neighbours`, of an embedding: JSON list of {item_id, key, uri, version, score}, which the person compares it with.
    """

    dedupe_key: str
    job: str
    run_id: str
    task: str
    operator: str
    item_id: str
    version: str
    key: str
    uri: str
    width: int | None
    height: int | None
    format: str | None
    route: str
    reason: str
    round: int
    p_ok: float | None
    score: float | None
    model: str | None
    prediction: str | None
    neighbours: str | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The item of a row of `routes/`; rows of before there were neighbours have no such column."""
        return cls(**{field.name: row[field.name] for field in fields(cls) if field.name in row})

    def pending(self, output: str) -> ReviewTask:
        """As the ledger notes it before it is sent; `output` is the URI of the job's output."""
        return ReviewTask(
            dedupe_key=self.dedupe_key,
            output=output,
            job=self.job,
            run_id=self.run_id,
            task=self.task,
            operator=self.operator,
            item_id=self.item_id,
            version=self.version,
            key=self.key,
            uri=self.uri,
            purpose=self.route,
            round=self.round,
            reason=self.reason,
        )

    @property
    def picture(self) -> Picture:
        """What of the item is shown."""
        return self.uri, self.version, self.format

    @property
    def neighbour_pictures(self) -> list[Picture]:
        """The same of its neighbours, whose formats their names say."""
        return [(one["uri"], one["version"], None) for one in self.known_neighbours]

    @property
    def known_neighbours(self) -> list[Any]:
        """Those that it is compared with, the nearest first; none where it is not about an embedding."""
        return [] if self.neighbours is None else list(json.loads(self.neighbours))

    @property
    def is_blind(self) -> bool:
        """Whether the prediction is kept from the person."""
        return self.route in BLIND

    @property
    def queue(self) -> str:
        """Whose project of Label Studio it goes to: that of the task, or of the task's adjudicators."""
        return adjudication_queue(self.task) if self.route == Purpose.ADJUDICATE else self.task


def adjudication_queue(task: str) -> str:
    """The project in which disputes about a task are decided, as the ledger names it."""
    return f"{task} / adjudicate"


def review_task(item: PushItem, *, image: str, neighbours: Sequence[str | None] = ()) -> dict[str, Any]:
    """The task to import: `image` is what Label Studio resolves to the picture, the rest says where it is from.

    `neighbours` likewise has the picture of each of the item's, None of one that is gone.
    """
    data: dict[str, Any] = {
        "image": image,
        "key": item.key,
        "uri": item.uri,
        "item_id": item.item_id,
        "job": item.job,
        "task": item.task,
        "run_id": item.run_id,
        "version": item.version,
        "purpose": item.route,
        "reason": item.reason,
        "model": item.model,
        "operator": item.operator,
        "dedupe_key": item.dedupe_key,
    }
    if item.operator == "embed":
        data |= embed.data(item.known_neighbours, neighbours)
    shown = None if item.is_blind or item.prediction is None else json.loads(item.prediction)
    if shown is None or shown.get("error") is not None:
        return {"data": data}
    frame = None if item.width is None or item.height is None else Frame(item.width, item.height)
    if item.route == Purpose.ADJUDICATE:
        return {"data": data, "predictions": _who_said_what(item.operator, shown, frame, data.get("neighbours"))}
    if item.operator == "embed":
        return {"data": data}  # a vector makes no claim that could be shown
    prediction: dict[str, Any] = {"result": kind_of(item.operator).results(shown, frame)}
    prediction["model_version"] = short_digest(item.model)
    score = shown_score(item.p_ok, item.score)
    if score is not None:
        prediction["score"] = score
    return {"data": data, "predictions": [prediction]}


def _who_said_what(
    operator: str, shown: Mapping[str, Any], frame: Frame | None, neighbours: Neighbours
) -> list[dict[str, Any]]:
    """Each answer as a prediction that is called by those who gave it."""
    return [
        {
            "result": shown_value(operator, one["value"], frame, neighbours=neighbours),
            "model_version": ", ".join(one["annotators"]),
        }
        for one in shown["answers"]
    ]


def shown_value(
    operator: str, value: Mapping[str, Any], frame: Frame | None, *, neighbours: Neighbours = None
) -> list[Result]:
    """A person's answer as the interface draws it; `neighbours`, of an embedding: those that the review task shows."""
    if operator == "embed":
        return embed.results(embed.placed(value, neighbours or ()), frame)
    drawn = {"label": None, "boxes": None, "masks": None, "lines": None, "regions": None, "heat_map": None, **value}
    if operator == "detect":
        drawn["boxes"] = [{**box, "score": 1.0, "is_output": True} for box in drawn["boxes"] or []]
    if operator == "segment":
        drawn["masks"] = value.get("instances") or drawn["masks"]
    if operator == "anomaly" and value.get("is_anomalous") is None:
        return []
    return kind_of(operator).results(drawn, frame)


def value_of(operator: str, answer: Sequence[Result], *, neighbours: Neighbours = None) -> Mapping[str, Any]:
    """What a person answered, in our frames: upright pixels, COCO masks.

    `neighbours`, of an embedding: those that the answered review task shows, as its data has them.

    Raises:
        ValueError: the result is not one that this operator's interface makes.
    """
    try:
        value = kind_of(operator).value([result for result in answer if result.get("from_name") != COMMENT])
        return embed.named(value, neighbours or ()) if operator == "embed" else value
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a result of the interface for {operator}: {error!r}") from error


def comment_of(answer: Any) -> str | None:
    """What the person wrote into the interface's field for it; None if nothing."""
    lines = [
        str(line)
        for result in answer or ()
        if isinstance(result, Mapping) and result.get("from_name") == COMMENT
        for line in (result.get("value") or {}).get("text") or ()
    ]
    return "\n".join(lines).encode("utf-8", "replace").decode() or None


def short_digest(model: str | None) -> str:
    """A model as people see it: the first characters of its sha256, or its whole name if it has none."""
    if model is None:
        return "unknown"
    return model if ":" in model else model[:_SHORT_DIGEST]


def shown_score(p_ok: float | None, score: float | None) -> float | None:
    """The one number that Label Studio shows and sorts by, in [0, 1]: p_ok, else the score, cut to that range."""
    number = score if p_ok is None else p_ok
    return None if number is None or math.isnan(number) else min(1.0, max(0.0, number))
