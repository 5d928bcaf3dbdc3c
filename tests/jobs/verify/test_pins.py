"""`winnow verify` over what runs pinned: calibrators by digest, models by sha256, in a registry and beside it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.histories import Row, add_run, output_runs, spec
from tests.jobs.test_learn import add_scored, labelled, learned
from winnow_jobs.calibrators import calibrator_key, pins_key
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.review import route_run
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.verify.pins import ModelPins, check_calibrators, check_models
from winnow_jobs.verify.run import verify_run
from winnow_storage.blobs import open_store
from winnow_storage.registry import Registry
from winnow_storage.uri import parse
from winnow_workers.models.resolve import resolve_model

__all__ = ["labelled"]  # a fixture


@pytest.fixture
def routed(labelled: tuple[ResolvedSpec, Runs]) -> tuple[Runs, PlanDocument, Path, str]:
    """A run that was routed with a learned calibrator: where its output is, and the calibrator's key."""
    resolved, runs = labelled
    calibrator = learned(resolved, runs).calibrator
    plan = add_scored(runs, resolved, n=50, low=0.5, seed=3)
    route_run(runs.store, plan)
    return runs, plan, Path(resolved.output), calibrator_key("kind", calibrator.digest)


def edited(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_check_calibrators__sound_and_none(routed: tuple[Runs, PlanDocument, Path, str]) -> None:
    runs, plan, _, _ = routed
    assert list(check_calibrators(runs.store, plan)) == []
    assert list(check_calibrators(runs.store, runs.plan("0001"))) == []  # routed with none


def test_check_calibrators__finds_damage(routed: tuple[Runs, PlanDocument, Path, str]) -> None:
    runs, plan, out, key = routed
    whole, pins = (out / key).read_text(), (out / pins_key("0002")).read_text()
    damages: list[tuple[Callable[[], object], str, str]] = [
        (lambda: edited(out / key, lambda one: one.update(numbers=[1.5])), key, "its content has the digest"),
        (lambda: (out / key).write_text(whole[:40]), key, "it is no calibrator"),
        ((out / key).unlink, key, "it is not there, and runs/0002/calibrators.json pins it"),
        (lambda: (out / pins_key("0002")).write_text("{"), pins_key("0002"), "it cannot be read"),
        (lambda: (out / pins_key("0002")).write_text("[]"), pins_key("0002"), "it names no calibrator for each task"),
        (
            lambda: edited(out / pins_key("0002"), lambda one: one.update(other="0" * 64)),
            pins_key("0002"),
            "it pins a calibrator of other, which is no task of the run",
        ),
    ]
    for damage, where, what in damages:
        (out / key).write_text(whole)
        (out / pins_key("0002")).write_text(pins)
        damage()
        (finding,) = check_calibrators(runs.store, plan)
        assert (finding.key, finding.what[: len(what)]) == (where, what)
        assert finding.cause
        assert finding.next
    assert finding.key in {one.key for one in verify_run(runs, "0002").findings}


def test_check_calibrators__of_another_task_digest(routed: tuple[Runs, PlanDocument, Path, str]) -> None:
    runs, plan, _, _ = routed
    task = plan.spec.tasks[0].model_copy(update={"params": {"top_k": 2}})
    other = plan.model_copy(update={"spec": plan.spec.model_copy(update={"tasks": (task,)})})
    (finding,) = check_calibrators(runs.store, other)
    assert "was learned of another model or other parameters" in finding.what


def job_of(folder: Path, weights: Path | str, registry: Registry | None = None) -> ResolvedSpec:
    model = resolve_model(str(weights), registry=registry)
    return spec(folder, ResolvedTask(name="kind", operator="embed", revision=1, params={}, model=model))


def test_check_models__of_a_closed_run_only_a_registrys_are_findings(tmp_path: Path) -> None:
    weights = tmp_path / "kind.safetensors"
    weights.write_bytes(b"weights")
    registry = Registry(open_store(parse(str(tmp_path / "registry"))))
    registry.add("kind", b"weights", {})
    beside = add_run(output_runs(tmp_path / "a"), job_of(tmp_path / "a", weights), [[Row("0.jpg")]])
    resolved = job_of(tmp_path / "b", "models/kind@1", registry).model_copy(
        update={"registry": str(tmp_path / "registry")}
    )
    registered = add_run(output_runs(tmp_path / "b"), resolved, [[Row("0.jpg")]])
    for plan in (beside, registered):
        assert ModelPins().wrong(plan) == {}
    weights.write_bytes(b"others!")
    (stored,) = [
        path for path in (tmp_path / "registry").rglob("*") if path.is_file() and path.read_bytes() == b"weights"
    ]
    stored.unlink()
    pins = ModelPins()
    wrong = pins.wrong(beside)
    assert wrong["kind"].startswith("its sha256 is ")
    findings, notes = check_models(beside, wrong, is_open=False)
    assert (findings, len(notes)) == ([], 1)
    (finding,) = check_models(beside, wrong, is_open=True)[0]
    assert "winnow resume cannot go on without it" in finding.next
    (finding,) = check_models(registered, pins.wrong(registered), is_open=False)[0]
    assert finding.what == "it is not there; the plan pins it for the task kind"
    assert finding.key in {one.key for one in verify_run(output_runs(tmp_path / "b"), "0001").findings}


def test_model_pins__looks_at_each_model_once(tmp_path: Path) -> None:
    weights = tmp_path / "kind.safetensors"
    weights.write_bytes(b"weights")
    runs = output_runs(tmp_path)
    first = add_run(runs, job_of(tmp_path, weights), [[Row("0.jpg")]])
    pins = ModelPins()
    assert pins.wrong(first) == {}
    weights.unlink()
    assert pins.wrong(first) == {}
    assert ModelPins().wrong(first) == {"kind": "it is not there"}
