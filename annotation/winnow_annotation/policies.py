"""What may a job spec say about people? The models of its `review` section."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter, model_validator

from winnow_annotation.people_spec import PeopleSpec
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
    """

    url: ServerUrl
    token: EnvSecret = "${LABEL_STUDIO_TOKEN}"  # noqa: S105  (a name, not a token)
    document_root: str = Field(default="/", pattern="^/")
    s3: S3Images = S3Images()


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


Uncalibrated = Literal["review", "hold"] | ScoreBelow | ScoreBetween


class Policy(_Model):
    """What is done with the predictions of one task.

    `min_p_ok`: accept from this probability on. `max_error`: accept only what keeps the share of wrong ones among
    the accepted under this, with certainty `confidence`. `uncalibrated` holds while a prediction's p_ok is null (for
    all predictions, where neither of the two is given).
    """

    min_p_ok: float | None = Field(default=None, ge=0, le=1)
    max_error: float | None = Field(default=None, gt=0, lt=1)
    confidence: float = Field(default=0.9, gt=0, lt=1)
    uncalibrated: Uncalibrated = "review"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_p_ok is not None and self.max_error is not None:
            raise ValueError("give min_p_ok or max_error, not both")
        if self.max_error is not None and not isinstance(self.uncalibrated, str):
            raise ValueError("with max_error, uncalibrated is review or hold: a raw score keeps no promise")
        return self


class ReviewSpec(PeopleSpec):
    """The `review` section. `budget`: review tasks of a run, over all its tasks; `audit`: share of the accepted."""

    label_studio: LabelStudioSpec | None = None
    policies: Mapping[str, Policy] = {}
    budget: int = Field(default=500, ge=0)
    audit: float = Field(default=0.0, ge=0, le=1)
