"""Does a task's digest change if and only if its predictions may, and a job's identity likewise with rows or routes?"""

from pathlib import Path

from tests.jobs.histories import spec
from winnow_annotation.learn_spec import GateSpec, LearnSpec
from winnow_jobs.resolved import ResolvedTask, resolve_spec
from winnow_jobs.spec import JobSpec
from winnow_jobs.spec_source import load_spec
from winnow_workers.limits import DecodeSettings
from winnow_workers.models.model_file import ModelCard, Preprocessing, encode_model
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


SPEC = """\
name: nobody-says
corpus: corpus
output: out
registry: registry
tasks:
  - {name: silent, operator: classify, model: silent.safetensors}
  - {name: says, operator: classify, model: says.safetensors}
  - {name: drawn, operator: classify, model: torchvision/resnet18, weights: {random: 1}}
"""


def test_resolve_spec__an_input_that_nobody_says_is_settled(tmp_path: Path) -> None:
    silent = ModelCard(architecture="torchvision/resnet18", labels=("a", "b"))
    says = silent.model_copy(update={"preprocessing": Preprocessing(height_px=64, width_px=64)})
    for name, card in (("silent", silent), ("says", says)):
        (tmp_path / f"{name}.safetensors").write_bytes(encode_model({}, card))
    (tmp_path / "spec.yaml").write_text(SPEC)
    resolved = resolve_spec(load_spec(tmp_path / "spec.yaml"))
    given = {task.name: task.params["input"] for task in resolved.tasks}
    assert (given["silent"]["height_px"], given["silent"]["resize_px"]) == (224, 256)
    assert given["says"] is given["drawn"] is None
    task = resolved.task("silent")
    before = task.model_copy(update={"params": task.params | {"input": None}})  # as it was resolved by former versions
    assert before.digest != task.digest


def test_learn__the_default_leaves_no_trace_and_only_gold_decides_routes(tmp_path: Path) -> None:
    plain = spec(tmp_path)
    assert "learn" not in plain.model_dump(mode="json")
    stricter = plain.model_copy(update={"learn": LearnSpec(gate=GateSpec(margin=0.001))})
    assert "learn" in stricter.model_dump(mode="json")
    assert type(plain).model_validate(stricter.model_dump(mode="json")) == stricter
    assert stricter.identity() == plain.identity()
    more_gold = plain.model_copy(update={"learn": LearnSpec(gold=0.5)})
    assert more_gold.identity() != plain.identity()
