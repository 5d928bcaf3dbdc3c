"""`winnow operators`: which operators are there, and does one of them, or one of your own, keep the contract?"""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from winnow_annotation.kinds.catalogue import KINDS
from winnow_jobs import operator_kind
from winnow_jobs.commands.options import AsJson
from winnow_jobs.machine import registry_uri
from winnow_jobs.people import label_set_of
from winnow_jobs.render import Screen
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.registry import Registry
from winnow_storage.uri import parse
from winnow_workers.catalogue import OPERATORS, operator_named
from winnow_workers.contract.bench import Bench
from winnow_workers.contract.findings import Finding
from winnow_workers.contract.suite import examine, finding
from winnow_workers.contract.views import drawn_views, folder_views, noise_views
from winnow_workers.frontier import TaskFailure, attempt
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import OperatorParams, TaskConfig

operators = typer.Typer(invoke_without_command=True, help="List the operators; check one, or one of your own.")


@operators.callback()
def listed(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the operators of the catalogue: default model and parameters."""
    if context.invoked_subcommand is not None:
        return
    screen = Screen(as_json=as_json)
    for name, kind in OPERATORS.items():
        parameters = kind.params_type.model_json_schema()
        record = {"operator": name, "default_model": kind.default_model, "parameters": parameters}
        if not screen.record(record):
            typer.echo(f"{name}: model {kind.default_model or '(a task must name one)'}")
            typer.echo(f"  parameters: {', '.join(parameters.get('properties', {})) or 'none'}")


@operators.command()
def check(
    operator: Annotated[str, typer.Argument(metavar="OPERATOR", help="mypackage.module:MyOperator, or a built-in.")],
    *,
    model: Annotated[str | None, typer.Option("--model", help="As a task names it; its own by default.")] = None,
    weights: Annotated[str | None, typer.Option("--weights", help="As in a task, such as '{random: 1}'.")] = None,
    params: Annotated[str, typer.Option("--params", help="The task's other keys, as YAML or JSON.")] = "{}",
    images: Annotated[
        Path | None, typer.Option("--images", help="A folder of images to look at beside the drawn ones.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Hold one operator against the contract: what the pipeline needs of every operator, rule by rule.

    Ends with 1 if a rule is broken.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"--device {device}: there is no such device", hint="write cpu or cuda")
    task = _task(operator, model, weights, params)
    views = [*noise_views(), *drawn_views(), *(folder_views(images) if images is not None else ())]
    findings, bench = examine(task, views, device=device)
    if bench is not None:
        findings.append(_reviewed(operator, task, bench))
    looked_at = len(views) if bench is None else len(bench.views)  # a head sees vectors in their place
    kept = all(one.ok is not False for one in findings)
    record = {
        "operator": operator,
        "model": task.model.name,
        "kept": kept,
        "images": looked_at,
        "checks": [one.record() for one in findings],
    }
    screen = Screen(as_json=as_json)
    if not screen.record(record):
        _show(screen, operator, findings, looked_at)
    raise typer.Exit(0 if kept else 1)


def _task(operator: str, model: str | None, weights: str | None, params: str) -> TaskConfig:
    kind = operator_named(operator)
    given = _complete(kind.params_type, _mapping("--params", params))
    registry = Registry(open_store(parse(registry_uri())))
    chosen: Any = None if weights is None else _yaml("--weights", weights)
    resolved = resolve_model(model or kind.default_model, chosen, registry=registry, base=Path.cwd())
    return TaskConfig("task", operator, resolved, given)


def _complete(kind: type[OperatorParams], given: dict[str, Any]) -> dict[str, Any]:
    """With the defaults, as a run's plan holds them."""
    try:
        params = kind.model_validate(given)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        known = ", ".join(kind.model_fields) or "none"
        raise UsageError(f"--params: {said}", hint=f"the parameters are: {known}") from error
    written = attempt(lambda: params.model_dump(mode="json"))
    return given if isinstance(written, TaskFailure) else {**given, **written}


def _mapping(option: str, text: str) -> dict[str, Any]:
    value = _yaml(option, text)
    if not isinstance(value, dict):
        raise UsageError(f"{option} {text}: not keys with values", hint=f"write {option} '{{key: value}}'")
    return value


def _yaml(option: str, text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"{option} {text}: {said}", hint=f"write {option} '{{key: value}}'") from error


def _reviewed(operator: str, task: TaskConfig, bench: Bench) -> Finding:
    kind = operator_named(operator)
    claimed = operator if operator in KINDS else kind.reviewed_as
    if claimed is None:
        note = "it claims none: a task of it can have no policy"
        return Finding(operator_kind.NAME, ok=None, why=operator_kind.WHY, note=note)
    known = label_set_of(task)
    if not known.labels and "labels" in kind.params_type.model_fields:
        note = "not checked: the task has no labels; add --params '{labels: [...]}'"
        return Finding(operator_kind.NAME, ok=None, why=operator_kind.WHY, note=note)
    problems = operator_kind.check_kind(bench, claimed, known)
    return finding(operator_kind.NAME, operator_kind.WHY, problems)


def _show(screen: Screen, operator: str, findings: list[Finding], images: int) -> None:
    screen.say(f"{operator}, on {images} images:")
    for one in findings:
        screen.say(f"{'ok  ' if one.ok else '-   ' if one.ok is None else 'FAIL'}  {one.check}: {one.note or one.why}")
        for problem in one.problems:
            screen.say(f"        what: {problem.what}")
            screen.say(f"        next: {problem.next}")
