"""Do an operator's parameters decide its task's digest? All of them, always in the same way, and nothing unknown."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from winnow_storage.ids import canonical_json
from winnow_workers.contract.findings import Problem
from winnow_workers.frontier import TaskFailure, attempt
from winnow_workers.operator import OperatorParams, TaskConfig
from winnow_workers.task_digest import task_digest

UNKNOWN = "no_such_parameter"
_OTHERS: tuple[object, ...] = (True, False, 0, 1, 2, 3, 64, 0.5, 0.25, "a", "b", ["a"], ["a", "b"], {}, None)


def check_parameters(kind: type[OperatorParams], task: TaskConfig, revision: object) -> Iterator[Problem]:
    """The class of the parameters, and those that the task has."""
    if not isinstance(revision, int) or revision < 1:
        yield Problem(f"revision is {revision!r}", "write revision: a whole number from 1, raised when answers change")
        return
    params = kind.model_validate(dict(task.params))
    if not kind.model_config.get("frozen"):
        yield Problem(f"{kind.__name__} can be changed after it was read", "extend OperatorParams, which is frozen")
    try:
        kind.model_validate({**task.params, UNKNOWN: 1})
        yield Problem(
            f"{kind.__name__} takes a key that it does not know, so a misspelt one is passed over",
            "extend OperatorParams without another model_config",
        )
    except ValidationError:
        pass
    written = attempt(lambda: _written(params))
    if isinstance(written, TaskFailure):
        yield Problem(f"{kind.__name__} cannot be written as JSON: {written.error}", "use plain types for parameters")
        return
    again = attempt(lambda: kind.model_validate(written))
    if again != params or _written(kind.model_validate(dict(task.params))) != written:
        yield Problem(
            f"{kind.__name__} is not the same when it is read again from what it is written as",
            "let defaults and validators depend on nothing but the value",
        )
        return
    yield from _undecided(kind, task, written, revision)


def _undecided(
    kind: type[OperatorParams], task: TaskConfig, written: Mapping[str, Any], revision: int
) -> Iterator[Problem]:
    """Parameters that may be changed without another digest."""
    params = kind.model_validate(dict(written))
    digest = task_digest(task.operator, revision=revision, params=written, model=task.model)
    for name in kind.model_fields:
        for value in (*_OTHERS, *_choices(kind, name)):
            try:
                other = kind.model_validate({**task.params, name: value})
            except ValidationError:
                continue
            if getattr(other, name) == getattr(params, name):
                continue
            changed = _written(other)
            if task_digest(task.operator, revision=revision, params=changed, model=task.model) == digest:
                yield Problem(
                    f"the parameter {name!r} changes from {getattr(params, name)!r} to {value!r} and the task's digest "
                    "does not: nothing would be due",
                    "let model_dump contain it (no exclude=True)",
                )
            break


def _choices(kind: type[OperatorParams], name: str) -> list[object]:
    """The values of an enumeration, by the JSON schema."""
    schema = kind.model_json_schema().get("properties", {}).get(name, {})
    found: list[object] = list(schema.get("enum", ()))
    for branch in schema.get("anyOf", ()):
        found += list(branch.get("enum", ()))
    return found


def _written(params: OperatorParams) -> dict[str, Any]:
    document = params.model_dump(mode="json")
    canonical_json(document)  # raises on what JSON has no form for
    return document
