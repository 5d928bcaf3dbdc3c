"""How does a YAML file become a JobSpec? Every mistake at file:line:column, with what is allowed."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from winnow_annotation.kinds.catalogue import KINDS, kind_of
from winnow_annotation.policies import Policy, check_policy
from winnow_jobs.spec import JobSpec, TaskSpec
from winnow_jobs.spec_errors import SECRETS, Explainer
from winnow_jobs.yaml_marks import MarkedYaml, load_marked
from winnow_jobs.yaml_marks import Path as MarkPath
from winnow_storage.errors import SpecError
from winnow_workers.catalogue import operator_named
from winnow_workers.operators.classify import vectors_of

PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class SpecSource:
    """A spec and the file that it came from; relative folders are relative to that file."""

    spec: JobSpec
    path: Path

    @property
    def base(self) -> Path:
        """The folder that relative places are relative to."""
        return self.path.absolute().parent


def load_spec(path: Path, environ: Mapping[str, str] | None = None) -> SpecSource:
    """Read and check a spec file.

    Raises:
        SpecError: unreadable, not YAML, unknown keys, wrong values, or an environment variable that is not set.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError(
            f"there is no spec file {path}", hint="give the path of a job spec, such as job.yaml"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"the spec file {path} cannot be read: {error}", hint="give a file of UTF-8 text that this user may read"
        ) from error
    marked = load_marked(text, str(path))
    value = _fill_in(marked.value, (), marked, os.environ if environ is None else environ)
    try:
        spec = JobSpec.model_validate(value)
    except ValidationError as error:
        raise Explainer(marked, JobSpec).spec_error(error) from error
    for index, task in enumerate(spec.tasks):
        _check_task(task, index, marked)
        _check_vectors(task, index, spec, marked)
        if task.name in spec.review.policies:
            _check_policy(task, spec.review.policies[task.name], marked)
        if task.name in spec.review.gold:
            _check_gold(task, marked)
    _check_select(spec, marked)
    return SpecSource(spec, path)


def _check_task(task: TaskSpec, index: int, marked: MarkedYaml) -> None:
    place: MarkPath = ("tasks", index)
    try:
        operator = operator_named(task.operator)
    except SpecError as error:
        raise SpecError(f"{marked.where((*place, 'operator'))}: {error.message}", hint=error.hint) from error
    try:
        operator.params_type.model_validate(task.params)
    except ValidationError as error:
        raise Explainer(marked, operator.params_type, prefix=place, also=TaskSpec).spec_error(error) from error
    if task.model is None and operator.default_model is None:
        raise SpecError(
            f"{marked.where(place)}: the task {task.name!r} names no model, and the operator {task.operator!r} "
            "has none of its own",
            hint="add model: torchvision/NAME, timm/NAME, models/NAME@STAGE or the URI of a weights file",
        )


def _check_vectors(task: TaskSpec, index: int, spec: JobSpec, marked: MarkedYaml) -> None:
    params = operator_named(task.operator).params_type.model_validate(task.params)
    name = vectors_of(task.operator, params.model_dump())
    made_by = {one.name: one.operator for one in spec.tasks}
    if name is None or made_by.get(name) == "embed":
        return
    there = ", ".join(one for one, operator in made_by.items() if operator == "embed")
    what = f"is of the operator {made_by[name]}" if name in made_by else "is no task of this job"
    raise SpecError(
        f"{marked.where(('tasks', index, 'vectors'))}: the task {task.name!r} classifies the vectors of {name!r}, "
        f"which {what}",
        hint=f"name a task of embed: {there}" if there else "add a task {name: look, operator: embed, model: ...}",
    )


def _check_select(spec: JobSpec, marked: MarkedYaml) -> None:
    vectors, embed = spec.review.select.vectors, [task.name for task in spec.tasks if _kind(task) == "embed"]
    if vectors is not None and vectors not in embed:
        raise SpecError(
            f"{marked.where(('review', 'select', 'vectors'))}: review.select.vectors names {vectors!r}, which is no "
            "task of embed",
            hint=f"there is {', '.join(embed)}" if embed else "add one, or leave vectors out",
        )


def _check_policy(task: TaskSpec, policy: Policy, marked: MarkedYaml) -> None:
    try:
        kind = _kind(task)
        kind_of(kind)
        check_policy(kind, policy)
    except SpecError as error:
        place = marked.where(("review", "policies", task.name), key=True)
        raise SpecError(f"{place}: {error.message}", hint=error.hint) from error


def _check_gold(task: TaskSpec, marked: MarkedYaml) -> None:
    kind, place = _kind(task), marked.where(("review", "gold", task.name), key=True)
    if kind == "embed":
        raise SpecError(
            f"{place}: review.gold names {task.name!r}: which neighbours it has nobody knows before",
            hint="remove it from review.gold",
        )
    if kind not in KINDS:
        raise SpecError(
            f"{place}: review.gold names {task.name!r}, and nobody can answer the operator {kind!r}",
            hint=f"remove it from review.gold, or give the operator a reviewed_as: one of {', '.join(KINDS)}",
        )


def _kind(task: TaskSpec) -> str:
    """The operator in whose interface people answer the task, if there is one."""
    return operator_named(task.operator).reviewed_as or task.operator


def _fill_in(value: object, path: MarkPath, marked: MarkedYaml, environ: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _fill_in(inner, (*path, key), marked, environ) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill_in(inner, (*path, index), marked, environ) for index, inner in enumerate(value)]
    if not isinstance(value, str) or any(path[: len(secret)] == secret for secret in SECRETS):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in environ:
            raise SpecError(
                f"{marked.where(path)}: the environment variable {name} is not set", hint=f"export {name}=..."
            )
        return environ[name]

    return PLACEHOLDER.sub(replace, value)
