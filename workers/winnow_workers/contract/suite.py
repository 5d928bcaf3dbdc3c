"""How is one operator checked? Opened, run over the images, then held against each rule by itself."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from winnow_storage.errors import WinnowError
from winnow_workers.catalogue import operator_named
from winnow_workers.contract import checks
from winnow_workers.contract.bench import Bench, answers, open_operator
from winnow_workers.contract.findings import Finding, Problem
from winnow_workers.contract.parameters import check_parameters
from winnow_workers.contract.process import check_process
from winnow_workers.contract.views import vector_views
from winnow_workers.frontier import TaskFailure, attempt
from winnow_workers.operator import Operator, Prediction, TaskConfig, View
from winnow_workers.operators.head import HeadOperator


@dataclass(frozen=True, slots=True)
class Check:
    """A rule, why the pipeline needs it, and what looks whether it is kept."""

    name: str
    why: str
    problems: Callable[[Bench], Iterable[Problem]]


PARAMETERS, OPENS, PREDICTS, PROCESS = "parameters", "opens", "predicts", "another process"
WHY = {
    PARAMETERS: "what is due is known by the task's digest, which holds the parameters",
    OPENS: "an actor opens an operator once and keeps it warm",
    PREDICTS: "every image ends with one row; one that an operator cannot process ends failed",
}
CHECKS = (
    Check("description", "rows name the preprocessing; decoding and batches are sized by it", checks.check_description),
    Check("schema", "the columns of a run are known before its first image", checks.check_schema),
    Check("rows", "a prediction that does not fit its columns would cost the whole shard", checks.check_rows),
    Check("empty batch", "a chunk may hold no image for a task", checks.check_empty_batch),
    Check("batches", "batch size changes with memory and device, rows must not", checks.check_batches),
    Check("order", "shards are retried and bisected in any order", checks.check_order),
    Check("begun ahead", "an accelerator is given its next work before it is waited for", checks.check_begun_ahead),
    Check("repeatable", "a shard that is tried again must give the same rows", checks.check_repeatable),
    Check("scores", "routing compares scores and p_ok", checks.check_scores),
    Check("pixels", "all tasks of a job share one decoded image", checks.check_pixels),
    Check("bad image", "one image must not cost its neighbours, nor the run", checks.check_bad_image),
    Check(PROCESS, "on Ray an operator lives in processes of their own", check_process),
)


def examine(
    task: TaskConfig, views: Sequence[View], *, device: str = "cpu", leave_out: Sequence[str] = ()
) -> tuple[list[Finding], Bench | None]:
    """Every finding about one operator, and what stood on the bench; None if it could not be brought to run.

    `views` are at least two images; a head is given drawn vectors in their place.

    Raises:
        SpecError: there is no such operator.
    """
    kind = operator_named(task.operator)
    made = attempt(lambda: list(check_parameters(kind.params_type, task, kind.revision)))
    if isinstance(made, TaskFailure):
        made = [Problem(made.error, "let params_type be a class of its own, which extends OperatorParams")]
    findings = [finding(PARAMETERS, WHY[PARAMETERS], made)]
    chosen = [check for check in CHECKS if check.name not in leave_out]
    operator = attempt(lambda: _open(task, device))
    if isinstance(operator, TaskFailure):
        operator = Problem(operator.error, "let open() load what run() needs")
    if isinstance(operator, Problem):
        predicts = Check(PREDICTS, WHY[PREDICTS], lambda _: ())
        return [*findings, finding(OPENS, WHY[OPENS], [operator]), *_not_made([predicts, *chosen])], None
    findings.append(finding(OPENS, WHY[OPENS], []))
    try:
        given = vector_views(operator.dimensions) if isinstance(operator, HeadOperator) else views
        bench, wrong = _set_up(task, given, device, operator)
        findings.append(finding(PREDICTS, WHY[PREDICTS], wrong))
        if bench is None:
            return [*findings, *_not_made(chosen)], None
        return [*findings, *(_found(check, bench) for check in chosen)], bench
    finally:
        attempt(operator.close)


def finding(name: str, why: str, problems: Iterable[Problem]) -> Finding:
    """What a check found."""
    found = tuple(dict.fromkeys(problems))
    return Finding(name, ok=not found, why=why, problems=found)


def _found(check: Check, bench: Bench) -> Finding:
    made = attempt(lambda: list(check.problems(bench)))
    if isinstance(made, TaskFailure):  # of values that are no numbers, and the like
        made = [Problem(made.error, "give the types that Prediction and Operator name")]
    return finding(check.name, check.why, made)


def _open(task: TaskConfig, device: str) -> Operator[Any] | Problem:
    try:
        return open_operator(task, device)
    except WinnowError as error:
        return Problem(error.message, error.hint or "see the message")


def _set_up(
    task: TaskConfig, views: Sequence[View], device: str, operator: Operator[Any]
) -> tuple[Bench | None, list[Problem]]:
    fields = attempt(lambda: [*operator.fields()])
    if isinstance(fields, TaskFailure) or not all(isinstance(one, pa.Field) for one in fields):
        wrong = fields.error if isinstance(fields, TaskFailure) else f"{fields!r}"[:200]
        return None, [Problem(f"fields() gives {wrong}", "return a list of pyarrow.field(NAME, TYPE)")]
    said = attempt(lambda: answers(operator, views))
    if isinstance(said, TaskFailure):
        return None, [Problem(said.error, "return one Prediction per view, in order")]
    sound = [one for one in said if isinstance(one, Prediction)]
    if len(sound) < len(said):
        failed = ((view, one) for view, one in zip(views, said, strict=True) if not isinstance(one, Prediction))
        return None, [_unpredicted(view, one) for view, one in failed]
    return Bench(task, device, operator, tuple(fields), tuple(views), tuple(sound)), []


def _unpredicted(view: View, said: object) -> Problem:
    height, width = view.pixels.shape[:2]
    what = said.error if isinstance(said, TaskFailure) else f"run() gives {said!r}"[:200]
    advice = "return one Prediction per view; where there is nothing to say, one with null fields"
    return Problem(f"an image of {width} x {height} px: {what}", advice)


def _not_made(checks: Sequence[Check]) -> list[Finding]:
    note = "not checked: the above comes first"
    return [Finding(check.name, ok=None, why=check.why, note=note) for check in checks]
