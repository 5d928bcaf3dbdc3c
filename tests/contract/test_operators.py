"""Does every operator of the catalogue keep the contract, whatever its architecture?"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from tests.contract.operator_cases import CASES
from winnow_annotation.kinds.catalogue import KINDS
from winnow_jobs.operator_kind import check_kind
from winnow_jobs.people import label_set_of
from winnow_storage.errors import SpecError
from winnow_workers.catalogue import OPERATORS, operator_named
from winnow_workers.contract.bench import Bench
from winnow_workers.contract.findings import Finding
from winnow_workers.contract.suite import CHECKS, PROCESS, WHY, examine
from winnow_workers.operator import TaskConfig
from winnow_workers.preflight import check_task

IN_PROCESSES = ("ocr", "embed-timm")


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES.values()} == set(OPERATORS)


@pytest.fixture(scope="module", params=list(CASES))
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskConfig]:
    torch.set_num_threads(1)  # the networks are small: threads would only wait for each other
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield CASES[request.param].task(request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def examined(task: TaskConfig) -> tuple[dict[str, Finding], Bench | None]:
    """Another process takes seconds to import torch: one operator with torch, and one without, are checked there."""
    leave_out = () if task.name in IN_PROCESSES else (PROCESS,)
    findings, bench = examine(task, CASES[task.name].views, leave_out=leave_out)
    return {finding.check: finding for finding in findings}, bench


@pytest.mark.parametrize("check", [*WHY, *(one.name for one in CHECKS)])
def test_operator__keeps(check: str, task: TaskConfig, examined: tuple[dict[str, Finding], Bench | None]) -> None:
    if check == PROCESS and task.name not in IN_PROCESSES:
        return
    finding = examined[0][check]
    assert finding.ok, finding.problems


def test_operator__the_check_before_a_plan_lets_its_model_pass(task: TaskConfig) -> None:
    check_task(task)


def test_operator__can_be_reviewed_where_people_can_answer(
    task: TaskConfig, examined: tuple[dict[str, Finding], Bench | None]
) -> None:
    bench = examined[1]
    assert bench is not None
    if task.operator in KINDS:
        known = label_set_of(task)
        assert list(check_kind(bench, task.operator, replace(known, labels=known.labels or ("one", "two")))) == []


def test_operator__random_weights_are_marked(task: TaskConfig) -> None:
    digest, weights = task.model.digest, task.model.weights
    if weights.kind in {"file", "folder"}:
        assert digest == weights.sha256
        return
    assert digest == ("random:1" if weights.kind == "random" else digest)
    assert digest.startswith("random:" if weights.kind == "random" else "builtin:")


def test_operator_named__unknown() -> None:
    with pytest.raises(SpecError, match="there is no operator 'clasify'") as raised:
        operator_named("clasify")
    assert raised.value.hint == "did you mean 'classify'? operators: anomaly, classify, detect, embed, ocr, segment"
