"""What exactly will a job do? The spec with everything pinned: places, models by digest, tasks by digest."""

from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field

from winnow_annotation.learn_spec import LearnSpec
from winnow_annotation.people_spec import PEOPLE_KEYS
from winnow_annotation.policies import ReviewSpec
from winnow_jobs.listed_items import with_listed_items
from winnow_jobs.machine import registry_uri
from winnow_jobs.spec import ExecutionSpec, SameContent, Section, TiffPages
from winnow_jobs.spec_source import SpecSource
from winnow_storage.blobs import open_store
from winnow_storage.errors import SpecError
from winnow_storage.listing import CorpusSource
from winnow_storage.registry import Registry
from winnow_storage.uri import parse
from winnow_workers.catalogue import operator_named
from winnow_workers.decode import DecodeLimits, DecodeSettings
from winnow_workers.models.published import with_published_input
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig
from winnow_workers.operators.classify import vectors_of
from winnow_workers.task_digest import task_digest

CODE_VERSION = version("winnow")


class ResolvedTask(Section):
    """A task with its model pinned and its parameters complete."""

    name: str
    operator: str
    revision: int
    params: dict[str, Any]
    model: ResolvedModel
    decode: DecodeSettings = DecodeSettings()
    reviewed_as: str | None = None  # the built-in operator in whose interface people answer it, if it is none itself

    @property
    def kind(self) -> str:
        """The operator as people know it: what routes, review tasks and labels say."""
        return self.reviewed_as or self.operator

    @property
    def digest(self) -> str:
        """What decides this task's predictions; a task with another digest is due again."""
        return task_digest(
            self.operator, revision=self.revision, params=self.params, model=self.model, decode=self.decode
        )

    @property
    def vectors(self) -> str | None:
        """The task whose vectors it classifies; None of a task of pixels."""
        return vectors_of(self.operator, self.params)

    def config(self) -> TaskConfig:
        """The task as an actor takes it."""
        return TaskConfig(self.name, self.operator, self.model, self.params)


class ResolvedCorpus(Section):
    """The corpus with its canonical place and its id."""

    id: str
    uri: str
    include: tuple[str, ...]
    column: str | None = None
    inventory: str | None = None
    max_requests_per_s: float | None = None
    max_bytes_per_s: float | None = None
    same_content: SameContent = "each"
    tiff_pages: TiffPages = "first"

    @property
    def source(self) -> CorpusSource:
        """What is listed when a run begins."""
        inventory = None if self.inventory is None else parse(self.inventory)
        return CorpusSource(
            self.id, parse(self.uri), self.include, inventory, self.column, tiff_pages=self.tiff_pages == "every"
        )


class ResolvedSpec(Section):
    """What a run's plan holds of its spec. Secrets stand in it as ${NAME} only."""

    job: str
    corpus: ResolvedCorpus
    output: str
    single_writer: bool
    tasks: tuple[ResolvedTask, ...] = Field(min_length=1)
    review: ReviewSpec
    run: ExecutionSpec
    limits: DecodeLimits
    decode: DecodeSettings = DecodeSettings()
    ledger: str | None
    registry: str
    # left out at its defaults, so that plans of before it was keep their bytes
    learn: LearnSpec = Field(default=LearnSpec(), exclude_if=lambda value: value == LearnSpec())

    def identity(self) -> dict[str, Any]:
        """What two specs must share for one to go on with the other's run: all that decides rows and routes."""
        left_out: dict[str, Any] = dict.fromkeys(("single_writer", "ledger", "registry"), True)
        left_out["tasks"] = {"__all__": {"decode": True}}  # it stands beside them already
        document = self.model_dump(mode="json", exclude=left_out)
        document["run"] = {"shard_items": document["run"]["shard_items"]}
        document["learn"] = {"gold": self.learn.gold}  # gold is no evidence for promises; the rest judges models
        for name in ("label_studio", "drift", *PEOPLE_KEYS):
            document["review"].pop(name, None)
        for name in ("inventory", "max_requests_per_s", "max_bytes_per_s"):  # how it is listed and read, not what
            del document["corpus"][name]
        return document

    def task(self, name: str) -> ResolvedTask:
        """The task of that name."""
        return next(task for task in self.tasks if task.name == name)


def resolve_spec(source: SpecSource) -> ResolvedSpec:
    """Pin a spec: every place absolute, every model by digest.

    Raises:
        SpecError: a place of an unknown scheme, an output inside the corpus, or a list of items that cannot be read.
        ModelError: a model that is not there or has another digest.
    """
    spec = source.spec
    registry = parse(spec.registry or registry_uri(), base=source.base)
    models = Registry(open_store(registry))
    tasks = []
    for task in spec.tasks:
        operator = operator_named(task.operator)
        params = operator.params_type.model_validate(task.params).pinned(source.base)
        model = resolve_model(task.model or operator.default_model, task.weights, registry=models, base=source.base)
        tasks.append(
            ResolvedTask(
                name=task.name,
                operator=task.operator,
                revision=operator.revision,
                params=with_published_input(params.model_dump(mode="json"), task.operator, model),
                model=model,
                decode=spec.decode,
                reviewed_as=operator.reviewed_as,
            )
        )
    corpus, output = parse(spec.corpus.uri, base=source.base), parse(spec.output.uri, base=source.base)
    if f"{output}/".startswith(f"{corpus}/"):
        raise SpecError(
            f"the output {output} lies in the corpus {corpus}: what a run writes would be items of the next one",
            hint="choose an output beside the corpus",
        )
    return ResolvedSpec(
        job=spec.name,
        corpus=ResolvedCorpus(
            id=spec.corpus.id or spec.name,
            uri=str(corpus),
            include=spec.corpus.include,
            column=spec.corpus.column,
            inventory=None if spec.corpus.inventory is None else str(parse(spec.corpus.inventory, base=source.base)),
            max_requests_per_s=spec.corpus.max_requests_per_s,
            max_bytes_per_s=spec.corpus.max_bytes_per_s,
            same_content=spec.corpus.same_content,
            tiff_pages=spec.corpus.tiff_pages,
        ),
        output=str(output),
        single_writer=spec.output.single_writer,
        tasks=_with_digests(tasks),
        review=_with_places(spec.review, source.base),
        run=spec.run,
        limits=spec.limits,
        decode=spec.decode,
        ledger=spec.ledger,
        registry=str(registry),
        learn=spec.learn,
    )


def chosen_tasks(tasks: Sequence[ResolvedTask], names: Collection[str]) -> tuple[ResolvedTask, ...]:
    """The tasks of these names, all if there are none, with those whose vectors they classify."""
    needed = {task.vectors for task in tasks if task.name in names}
    return tuple(task for task in tasks if not names or task.name in names or task.name in needed)


def _with_digests(tasks: Sequence[ResolvedTask]) -> tuple[ResolvedTask, ...]:
    """Those that classify vectors with the digest of the task that makes them: with it theirs is another."""
    digests = {task.name: task.digest for task in tasks}
    return tuple(
        task.model_copy(
            update={"params": task.params | {"vectors": {"task": task.vectors, "digest": digests[task.vectors]}}}
        )
        if task.vectors is not None
        else task
        for task in tasks
    )


def _with_places(review: ReviewSpec, base: Path) -> ReviewSpec:
    """The files of known answers, where the spec names them beside itself, by their absolute paths; lists are read."""
    gold = {
        task: one.model_copy(update={"truth": str((base / one.truth).absolute())}) for task, one in review.gold.items()
    }
    return with_listed_items(review, base).model_copy(update={"gold": gold})


def differences(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> list[str]:
    """Where two identities part, as `path: theirs -> ours`, sorted by path."""
    found: list[str] = []
    for key in sorted(set(ours) | set(theirs)):
        mine, other = ours.get(key), theirs.get(key)
        place = f"{path}.{key}" if path else key
        if mine == other:
            continue
        if isinstance(mine, dict) and isinstance(other, dict):
            found += differences(mine, other, place)
        elif _named(mine) and _named(other):
            found += differences(_by_name(mine), _by_name(other), place)
        else:
            found.append(f"{place}: {_short(other)} -> {_short(mine)}")
    return found


def _named(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "name" in one for one in value)


def _by_name(value: Any) -> dict[str, Any]:
    return {one["name"]: one for one in value}


def _short(value: object) -> str:
    text = "(nothing)" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
