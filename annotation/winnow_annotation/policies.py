"""What may a job spec say about people? The models of its `review` section."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter, model_validator

from winnow_annotation.committee import LEAST_MEMBERS
from winnow_annotation.item_lists import NO_ITEMS, ItemList
from winnow_annotation.people_spec import PeopleModel, PeopleSpec
from winnow_storage.errors import SpecError

_PLACEHOLDER = re.compile(r"^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$")


def _placeholder(text: str) -> str:
    # the value is not repeated: it may be the secret itself
    if _PLACEHOLDER.match(text) is None:
        raise ValueError("a secret is taken from the environment: write ${NAME}")
    return text


def _server_url(text: str) -> str:
    TypeAdapter(HttpUrl).validate_python(text)
    return text.rstrip("/")


# The name of an environment variable as `${NAME}`. The secret itself is never in a spec, so a spec can be stored.
EnvSecret = Annotated[str, AfterValidator(_placeholder)]
ProjectName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_ -]{0,39}$")]
ServerUrl = Annotated[str, AfterValidator(_server_url)]


def resolve_secret(secret: EnvSecret, environ: Mapping[str, str]) -> str:
    """The value of `${NAME}`.

    Raises:
        SpecError: the variable is not set, or empty.
    """
    name = secret[2:-1]
    if not environ.get(name):
        raise SpecError(f"the environment variable {name} is not set", hint=f"export {name}=...")
    return environ[name]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class S3Images(_Model):
    """How Label Studio reads images from S3. What is absent here is left to Label Studio's own environment.

    `endpoint_url` is the endpoint as Label Studio reaches it. With `presign`, annotators' browsers fetch from the
    store by short-lived URLs, which they must be able to reach and which needs CORS rules on the bucket; without,
    Label Studio passes the bytes on.
    """

    endpoint_url: ServerUrl | None = None
    region: str | None = None
    access_key_id: EnvSecret | None = None
    secret_access_key: EnvSecret | None = None
    presign: bool = False


class LabelStudioSpec(_Model):
    """Which Label Studio the review tasks go to.

    `document_root` is that server's LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, below which images in folders must lie.
    `projects`, by task: tasks of one name here, and of one interface, share a project; others have one each.
    """

    url: ServerUrl
    token: EnvSecret = "${LABEL_STUDIO_TOKEN}"  # noqa: S105  (a name, not a token)
    document_root: str = Field(default="/", pattern="^/")
    s3: S3Images = S3Images()
    # left out where there are none, so that plans of before they were keep their digests
    projects: Mapping[str, ProjectName] = Field(default={}, exclude_if=lambda names: not names)


class ScoreBelow(_Model):
    """Predictions whose score is below are reviewed, the others accepted."""

    score_below: float


class ScoreBetween(_Model):
    """Predictions whose score is inside (both ends included) are reviewed, the others accepted.

    For scores such as the distance of an anomaly over its threshold, where the unsure ones lie around 1.
    """

    score_between: tuple[float, float]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.score_between[0] > self.score_between[1]:
            raise ValueError("score_between: the first number must not be above the second")
        return self


Uncalibrated = Literal["review", "hold", "accept"] | ScoreBelow | ScoreBetween


class Rule(_Model):
    """When is a prediction accepted? At most one of the first four; without any, `uncalibrated` decides alone.

    `min_p_ok`: from this probability on. `max_error`: where at most this share of the accepted is wrong, with certainty
    `confidence`. `max_loss`: likewise of a loss in [0, 1] (1 - F1 of boxes, 1 - mean IoU of masks, character error
    rate); without `confidence` the expected loss that passes, over all items. `min_recall`: of what is harmful at least
    this share is not let through. The last three are promises: their threshold is found from labels of uniform random
    draws, over `rank`. While there is none (or no p_ok, for the first), `uncalibrated` holds: of `accept` audits tell
    how often it is wrong.
    """

    min_p_ok: float | None = Field(default=None, ge=0, le=1)
    max_error: float | None = Field(default=None, gt=0, lt=1)
    max_loss: float | None = Field(default=None, gt=0, lt=1)
    min_recall: float | None = Field(default=None, gt=0, lt=1)
    confidence: float | None = Field(default=None, gt=0, lt=1)
    rank: Literal["score", "p_ok"] = "score"
    uncalibrated: Uncalibrated = "review"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in ("min_p_ok", *PROMISES) if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give {given[0]} or {given[1]}, not both")
        if self.is_promise and self.uncalibrated not in ("review", "hold"):
            raise ValueError(f"with {given[0]}, uncalibrated is review or hold: all else keeps no promise")
        if not self.is_promise and self.confidence is not None:
            raise ValueError(f"confidence belongs to a promise: {', '.join(PROMISES)}")
        if self.min_recall is not None and self.rank != "score":
            raise ValueError("min_recall ranks by how harmful the model thinks an item: leave rank out")
        return self

    @property
    def promise(self) -> str | None:
        """Which promise it makes: one of PROMISES."""
        return next((name for name in PROMISES if getattr(self, name) is not None), None)

    @property
    def is_promise(self) -> bool:
        """Whether its threshold is found from labels."""
        return self.promise is not None

    @property
    def certainty(self) -> float:
        """Of a promise."""
        return DEFAULT_CONFIDENCE if self.confidence is None else self.confidence


PROMISES = ("max_error", "max_loss", "min_recall")
DEFAULT_CONFIDENCE = 0.9
DEFAULT_RULE = ""  # the name of a policy's own rule, beside those of its classes


class Policy(Rule):
    """What is done with the predictions of one task: its own rule, and what is said of single classes before that.

    `classes`: predictions of a class go by its own rule; of several in an image, by the first in the order of the spec.
    Items with any class of `always_review` go to people whatever their score, those whose classes are all in
    `never_review` never for being unsure (they may be drawn to audit). `harmful`: the classes that `min_recall` is
    about; predictions of these are `flagged`: reviewed, or accepted as they are.

    `always_review_items` and `never_review_items` say the same of single items, whatever the model sees in them. Of all
    these lists, one that says always comes first.

    `mask_iou`, of segment: from which IoU, averaged over the classes of truth and prediction, masks are right. It is
    asked by calibrators, promises and audits, and by `winnow evaluate`.
    """

    classes: Mapping[str, Rule] = {}
    always_review: tuple[str, ...] = ()
    never_review: tuple[str, ...] = ()
    # left out where they say nothing, so that plans of before they were keep their digests
    always_review_items: ItemList = Field(default=NO_ITEMS, exclude_if=lambda items: items.is_empty)
    never_review_items: ItemList = Field(default=NO_ITEMS, exclude_if=lambda items: items.is_empty)
    mask_iou: float | None = Field(default=None, gt=0, le=1, exclude_if=lambda value: value is None)
    harmful: tuple[str, ...] = ()
    flagged: Literal["review", "accept"] = "review"

    @model_validator(mode="after")
    def _classes_are_told_apart(self) -> Self:
        both = sorted(set(self.always_review) & set(self.never_review))
        if both:
            raise ValueError(f"always_review and never_review both name {both[0]!r}")
        listed = {*self.always_review, *self.never_review} & set(self.classes)
        if listed:
            raise ValueError(f"classes has a rule for {min(listed)!r}, which always_review or never_review decides")
        if any(rule.min_recall is not None for rule in self.classes.values()):
            raise ValueError("min_recall is about all that is harmful: give it to the task, with harmful: [CLASS, ...]")
        if self.harmful and self.min_recall is None:
            raise ValueError("harmful belongs to min_recall")
        return self

    def rules(self) -> Mapping[str, Rule]:
        """By name: the policy's own, then those of its classes in the order of the spec."""
        return {DEFAULT_RULE: self, **self.classes}

    @property
    def names_classes(self) -> bool:
        """Whether anything is said of single classes."""
        return bool(self.classes or self.always_review or self.never_review or self.min_recall is not None)

    @property
    def names_items(self) -> bool:
        """Whether anything is said of single items."""
        return not (self.always_review_items.is_empty and self.never_review_items.is_empty)


class SelectSpec(PeopleModel):
    """How reviews are chosen where there are more than the budget has places for.

    `by`: the lowest margin between the two best classes, the highest entropy, the lowest score, the lowest p_ok, or
    random; or the highest disagreement of a `committee`: classify tasks of the same labels that look at the same image.
    Predictions that have no such number go by p_ok, then score. `diverse`: of the most unsure only such as differ, by
    the vectors of a task of operator embed in the same run, `vectors` if there are several.
    """

    by: Literal["margin", "entropy", "score", "p_ok", "disagreement", "random"] = "margin"
    diverse: bool = True
    vectors: str | None = None
    # left out where there is none, so that plans of before it was keep their digests
    committee: tuple[str, ...] = Field(default=(), exclude_if=lambda tasks: not tasks)

    @model_validator(mode="after")
    def _a_committee_disagrees(self) -> Self:
        if (self.by == "disagreement") != bool(self.committee):
            raise ValueError("by: disagreement and committee: [TASK, TASK, ...] belong together")
        if self.committee and len(set(self.committee)) < LEAST_MEMBERS:
            raise ValueError("a committee of one disagrees with nobody: name two tasks or more")
        return self


class DriftSpec(PeopleModel):
    """When a run says that images, scores or labels are not what they were.

    `false_alarms`: how often it may say so of a run where nothing changed, all its tests together; 0: no test is made.
    `sample`: how many images of a run, and of those before it, are compared.
    """

    false_alarms: float = Field(default=0.01, ge=0, le=0.2)
    sample: int = Field(default=500, ge=100, le=2000)


class ReviewSpec(PeopleSpec):
    """The `review` section. `budget`: review tasks of a run, over all its tasks; `audit`: share of the accepted.

    `calibrate`: so many predictions of each task with a policy go to people by a uniform random draw, whatever the
    model says: what promises are fitted on. Draws come first inside the budget.
    """

    label_studio: LabelStudioSpec | None = None
    policies: Mapping[str, Policy] = {}
    budget: int = Field(default=500, ge=0)
    audit: float = Field(default=0.0, ge=0, le=1)
    calibrate: int = Field(default=0, ge=0)
    select: SelectSpec = SelectSpec()
    # left out at its default, so that plans of before it was keep their digests
    drift: DriftSpec = Field(default=DriftSpec(), exclude_if=lambda value: value == DriftSpec())


# Which operators' predictions have these: a degree of being wrong, classes, and a score of one class among others.
_WITH_LOSS = ("detect", "segment", "ocr")
_WITH_CLASSES = ("classify", "detect", "segment", "anomaly")
_WITH_HARM = ("classify", "detect", "anomaly")


_WITHOUT_SCORE = ("embed",)


def check_policy(operator: str, policy: Policy) -> None:
    """Whether the operator's predictions are such as the policy speaks of.

    Raises:
        SpecError: they are not.
    """
    if operator in _WITHOUT_SCORE and any(_asks_for_score(rule) for rule in policy.rules().values()):
        raise SpecError(
            f"predictions of {operator} have no score and no p_ok, by which this policy chooses",
            hint="write uncalibrated: accept with review.audit, or hold with review.calibrate: both draw at random",
        )
    if any(rule.max_loss is not None for rule in policy.rules().values()) and operator not in _WITH_LOSS:
        raise SpecError(
            f"{operator} is right or wrong, it has no max_loss",
            hint=f"write max_error; max_loss is for {', '.join(_WITH_LOSS)}",
        )
    if policy.mask_iou is not None and operator != "segment":
        raise SpecError(f"predictions of {operator} have no masks", hint="remove mask_iou: it is for segment")
    if policy.min_recall is not None and operator not in _WITH_HARM:
        raise SpecError(f"min_recall is not for {operator}", hint=f"it is for {', '.join(_WITH_HARM)}")
    if policy.min_recall is not None and operator != "anomaly" and not policy.harmful:
        raise SpecError("min_recall does not say what is harmful", hint="add harmful: [CLASS, ...]")
    if policy.names_classes and operator not in _WITH_CLASSES:
        raise SpecError(
            f"predictions of {operator} have no classes", hint="remove classes, always_review and never_review"
        )


def _asks_for_score(rule: Rule) -> bool:
    return rule.is_promise or rule.min_p_ok is not None or not isinstance(rule.uncalibrated, str)
