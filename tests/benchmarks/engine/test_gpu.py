"""What the GPU's lines say where there is none: nothing is held against a target, and the setup says why."""

import json

import pytest

from tests.benchmarks.engine import gpu


@pytest.mark.parametrize(("device", "holds"), [("cpu", [None, None]), ("cuda", [False, True, False, True])])
def test_measure_model__has_targets_on_a_gpu_only(
    device: str, holds: list[bool | None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One turn at half of the bare model's rate, with each decoder."""
    idle = {"cuda": 0.05}.get(device)
    monkeypatch.setattr(gpu, "bare", lambda *_: 100.0)
    monkeypatch.setattr(gpu, "engine", lambda *_: (50.0, idle))
    gpu.measure_model("resnet50", [], device, 256, 1, "somewhere")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["holds"] for line in lines] == holds
    assert lines[0]["figure"] == 0.5


def test_where__says_that_a_cpu_is_no_place_for_it() -> None:
    assert "only tried" in gpu.where("cpu")
