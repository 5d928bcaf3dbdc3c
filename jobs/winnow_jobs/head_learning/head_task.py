"""Which tasks of a spec have heads for models, and what is current of them? Also where there is no head yet.

A spec whose head was never learned cannot be resolved as a whole; so the tasks that have heads are read from the spec
as it stands, and the others are resolved without them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from winnow_annotation.policies import Policy
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask, resolve_spec
from winnow_jobs.spec import TaskSpec
from winnow_jobs.spec_source import SpecSource
from winnow_storage.errors import ModelError, SpecError, UsageError
from winnow_storage.registry import ModelEntry, Registry

VECTORS = "vectors"  # the parameter of classify that makes its model a head


@dataclass(frozen=True, slots=True)
class HeadTask:
    """A task `name` whose model is a head, `model` of the registry, version or stage `wanted`, on these vectors."""

    name: str
    model: str
    wanted: str
    vectors: ResolvedTask
    policy: Policy | None

    def current(self, registry: Registry, stage: str | None) -> ModelEntry | None:
        """What `stage` names; else (and where there is no such stage) what the spec names. None if that is not there.

        Raises:
            StoreError: as the registry says.
        """
        for wanted in (stage, self.wanted):
            if wanted is not None:
                try:
                    return registry.resolve(f"{self.model}@{wanted}")
                except ModelError:
                    continue
        return None


@dataclass(frozen=True, slots=True)
class HeadJob:
    """A spec without its tasks that have heads, and those."""

    spec: ResolvedSpec
    tasks: tuple[HeadTask, ...]


def head_job(source: SpecSource, names: Sequence[str]) -> HeadJob:
    """The tasks named (all that have heads, if none is named).

    Raises:
        UsageError: a task is not there, or its model is no head of the registry that could be replaced.
        SpecError, ModelError: as `resolve_spec` says of the other tasks.
    """
    there = {task.name: task for task in source.spec.tasks}
    heads = {name: task for name, task in there.items() if _has_head(task)}
    for name in names:
        if name not in there:
            raise UsageError(f"--tasks {name!r}: the spec has no such task", hint=f"it has {', '.join(there)}")
        if name not in heads:
            raise UsageError(
                f"task {name}: its model is no head on stored vectors",
                hint="write operator: classify, vectors: TASK, model: models/NAME@STAGE",
            )
    if not heads:
        raise UsageError(
            "no task of the spec has a head to learn",
            hint="add {name: kind, operator: classify, vectors: NAME-OF-AN-EMBED-TASK, model: models/kind@prod}",
        )
    others = tuple(task for name, task in there.items() if name not in heads)
    if not others:
        raise SpecError("the spec has no task that makes vectors", hint="add {name: look, operator: embed, model: ...}")
    spec = resolve_spec(replace(source, spec=source.spec.model_copy(update={"tasks": others})))
    chosen = names or list(heads)
    return HeadJob(spec, tuple(_head_task(heads[name], spec) for name in chosen))


def _has_head(task: TaskSpec) -> bool:
    return task.operator == "classify" and task.params.get(VECTORS) is not None


def _head_task(task: TaskSpec, spec: ResolvedSpec) -> HeadTask:
    if task.params.get("choose") == "several" or task.params.get("tree") or task.params.get("label_file"):
        raise UsageError(
            f"task {task.name}: a head learns one label an image, not several nor nodes of a tree",
            hint="leave choose, tree and label_file out of the task",
        )
    library, _, reference = (task.model or "").partition("/")
    name, _, wanted = reference.partition("@")
    if library != "models" or not name:
        raise UsageError(
            f"task {task.name}: its model {task.model!r} is not in the registry, so there is nowhere to put a new one",
            hint=f"write model: models/{task.name}@prod",
        )
    if not wanted:
        raise UsageError(
            f"task {task.name}: models/{name} means the newest version, so what is learned would be used unjudged",
            hint=f"write model: models/{name}@prod",
        )
    vectors = {one.name: one for one in spec.tasks if one.operator == "embed"}
    given = task.params[VECTORS]
    made_by = str(given["task"] if isinstance(given, Mapping) else given)
    if made_by not in vectors:
        there = f"it has {', '.join(vectors)}" if vectors else "add one with operator: embed"
        raise UsageError(f"task {task.name}: vectors names {made_by!r}, which is no task of embed", hint=there)
    return HeadTask(task.name, name, wanted, vectors[made_by], spec.review.policies.get(task.name))
