"""Does a task's digest change if and only if its predictions may, and a job's identity likewise with rows or routes?"""

from pathlib import Path

from tests.jobs.histories import spec
from winnow_annotation.learn_spec import GateSpec, LearnSpec
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.spec import JobSpec
from winnow_workers.limits import DecodeSettings
from winnow_workers.models.resolve import resolve_model


def task(decode: DecodeSettings) -> ResolvedTask:
    model = resolve_model("builtin/fingerprint")
    return ResolvedTask(name="a", operator="embed", revision=1, params={}, model=model, decode=decode)


def test_digest__who_decodes_jpegs() -> None:
    plain = task(DecodeSettings()).digest
    assert task(DecodeSettings(jpeg="cpu")).digest == plain
    assert len({plain, task(DecodeSettings(jpeg="gpu")).digest, task(DecodeSettings(jpeg="auto")).digest}) == 3


def test_decode__the_default_leaves_no_trace() -> None:
    """Plans and digests of before there was a choice stay as they were."""
    assert DecodeSettings(jpeg="cpu").model_dump(mode="json") == {"background": "#ffffff"}
    assert DecodeSettings(jpeg="gpu").model_dump(mode="json") == {"background": "#ffffff", "jpeg": "gpu"}
    spec = {"name": "j", "corpus": "c", "output": "o", "tasks": [{"name": "a", "operator": "embed"}]}
    assert JobSpec.model_validate(spec | {"decode": {"jpeg": "gpu"}}).decode.jpeg == "gpu"


def test_learn__the_default_leaves_no_trace_and_only_gold_decides_routes(tmp_path: Path) -> None:
    plain = spec(tmp_path)
    assert "learn" not in plain.model_dump(mode="json")
    stricter = plain.model_copy(update={"learn": LearnSpec(gate=GateSpec(margin=0.001))})
    assert "learn" in stricter.model_dump(mode="json")
    assert type(plain).model_validate(stricter.model_dump(mode="json")) == stricter
    assert stricter.identity() == plain.identity()
    more_gold = plain.model_copy(update={"learn": LearnSpec(gold=0.5)})
    assert more_gold.identity() != plain.identity()
