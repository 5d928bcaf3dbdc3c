"""What may a job spec say? Section by section, with the defaults of each key."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from winnow_annotation.learn_spec import LearnSpec
from winnow_annotation.policies import ReviewSpec
from winnow_storage.schemas import IMAGE_SUFFIXES, RESULT_COMMON
from winnow_workers.decode import DecodeLimits, DecodeSettings

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
COLUMN = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"  # a task's name is a column of the results


class Section(BaseModel):
    """A part of the spec: immutable, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


SameContent = Literal["each", "once"]
TiffPages = Literal["first", "every"]


class CorpusSpec(Section):
    """Which images. `id` (the job's name by default) and the key of an item make its item_id.

    `column` names the one that holds the images of Parquet files, where several could be it. `tiff_pages: every` makes
    each page of a TIFF an item, as those of PDF documents are; otherwise a TIFF is an item by its first page.

    `inventory` is the manifest.json of an S3 Inventory of the corpus' bucket, or the folder S3 writes them to: it is
    read instead of listing the bucket. The two limits spare a bucket that others need: all actors of a run together
    read no faster. `same_content: once` predicts images of the same bytes once and copies the row.
    """

    uri: str
    id: str | None = Field(default=None, pattern=NAME)
    include: tuple[str, ...] = tuple(f"*.{suffix}" for suffix in IMAGE_SUFFIXES)
    column: str | None = None
    inventory: str | None = None
    max_requests_per_s: float | None = Field(default=None, gt=0)
    max_bytes_per_s: float | None = Field(default=None, gt=0)
    same_content: SameContent = "each"
    tiff_pages: TiffPages = "first"


class OutputSpec(Section):
    """Where runs, routes and labels are written.

    `single_writer` promises that no two runs write at once; it is needed where the store has no conditional puts.
    """

    uri: str
    single_writer: bool = False


class WeightsUri(Section):
    """A weights file, its digest given where the file must be exactly that one."""

    uri: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class WeightsRandom(Section):
    """Weights drawn from a seed: for benchmarks and parity tests, marked in every row."""

    random: int = Field(ge=0)


WeightsSpec = Literal["pretrained"] | WeightsUri | WeightsRandom


class TaskSpec(BaseModel):
    """An operator with a name and a model; every further key is a parameter of the operator."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(pattern=COLUMN)
    operator: str
    model: str | None = None
    weights: WeightsSpec | None = None

    @property
    def params(self) -> dict[str, Any]:
        """The operator's parameters, not validated yet."""
        return dict(self.model_extra or {})


class ActorRange(Section):
    """How many actors at least and at most."""

    min: int = Field(default=1, ge=1)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "ActorRange":
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is more than max ({self.max})")
        return self


class ExecutionSpec(Section):
    """How the work is cut and placed. `auto`: shards from the plan, actors and device from the cluster.

    A process that is busy with one image, or one batch, for longer than `item_deadline_s` is ended; which image it was
    is found out, and it ends `failed`. A process that makes no step at its shard for `shard_deadline_s` is ended too.
    `item_memory_bytes` is what one image may make its process allocate beyond the models.
    """

    shard_items: Literal["auto"] | Annotated[int, Field(ge=1, le=65536)] = "auto"
    actors: Literal["auto"] | Annotated[int, Field(ge=1)] | ActorRange = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    item_deadline_s: float = Field(default=300.0, ge=1.0)
    shard_deadline_s: float = Field(default=1800.0, ge=1.0)
    item_memory_bytes: int = Field(default=4 * 2**30, ge=2**26)


class JobSpec(Section):
    """A whole job. `ledger` and `registry` have defaults of the machine (WINNOW_LEDGER, the user's data folder)."""

    name: str = Field(pattern=NAME)
    corpus: CorpusSpec
    output: OutputSpec
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    review: ReviewSpec = ReviewSpec()
    learn: LearnSpec = LearnSpec()
    run: ExecutionSpec = ExecutionSpec()
    limits: DecodeLimits = DecodeLimits()
    decode: DecodeSettings = DecodeSettings()
    ledger: str | None = None
    registry: str | None = None

    @field_validator("output", mode="before")
    @classmethod
    def _output_may_be_a_uri(cls, value: object) -> object:
        return {"uri": value} if isinstance(value, str) else value

    @field_validator("corpus", mode="before")
    @classmethod
    def _corpus_may_be_a_uri(cls, value: object) -> object:
        return {"uri": value} if isinstance(value, str) else value

    @field_validator("ledger")
    @classmethod
    def _no_password_in_the_file(cls, url: str | None) -> str | None:
        password = urlsplit(url).password if url is not None else None
        if password is not None and "${" not in password:
            raise ValueError("a password is taken from the environment: write postgresql://USER:${NAME}@HOST/DATABASE")
        return url

    @field_validator("tasks")
    @classmethod
    def _names_are_columns(cls, tasks: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
        seen = {name.lower(): "a column of every result" for name in RESULT_COMMON.names}
        for task in tasks:
            if task.name.lower() in seen:
                raise ValueError(f"the task name {task.name!r} is already taken by {seen[task.name.lower()]}")
            seen[task.name.lower()] = f"another task, {task.name!r}"
        return tasks

    @model_validator(mode="after")
    def _policies_name_tasks(self) -> "JobSpec":
        named_in = {one: getattr(self.review, one) for one in ("policies", "gold", "instructions", "overlaps")}
        studio = self.review.label_studio
        named_in |= {} if studio is None else {"label_studio.projects": studio.projects}
        for section, named in named_in.items():
            unknown = sorted(set(named) - {task.name for task in self.tasks})
            if unknown:
                names = ", ".join(task.name for task in self.tasks)
                raise ValueError(
                    f"review.{section} names {unknown[0]!r}, which is no task of this job (tasks: {names})"
                )
        for name in self.review.select.committee:
            member = next((task for task in self.tasks if task.name == name), None)
            if member is None or member.operator != "classify" or member.params.get("choose") == "several":
                raise ValueError(f"review.select.committee names {name!r}, which is no classify task of one label")
        return self
