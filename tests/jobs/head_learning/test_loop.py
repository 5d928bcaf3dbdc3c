"""What a loop refuses before it does anything, and when it begins again.

The whole of it runs against a real Label Studio: `test_loop_goes_on`, `test_loop_learns`, and in the benchmarks.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.head_learning.digits_job import DigitsJob
from tests.jobs.head_learning.test_learn_heads_command import SPEC, run
from winnow_jobs import loop as loop_module
from winnow_jobs.commands.options import now
from winnow_jobs.events import silent
from winnow_jobs.loop import LoopOptions, Outside, Step, Turn, scheduled
from winnow_storage.errors import UsageError


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("model: models/kind@3", "task kind: models/kind@3 is a version, which no gate can replace"),
        ("model: models/kind", "task kind: models/kind means the newest version"),
    ],
)
def test_loop__refuses_what_no_gate_can_replace(
    digits: DigitsJob, capsys: pytest.CaptureFixture[str], changed: str, message: str
) -> None:
    path = digits.folder / "job.yaml"
    path.write_text(SPEC.replace("model: models/kind@prod", changed))
    code, _, err = run(capsys, "loop", path)
    assert code == 2
    assert message in err


def test_loop__without_a_head_or_labels_says_what_is_missing(
    digits: DigitsJob, capsys: pytest.CaptureFixture[str]
) -> None:
    path: Path = digits.folder / "job.yaml"
    path.write_text(SPEC)
    code, out, err = run(capsys, "loop", path)
    assert code == 2
    assert "round 1, learn: kind: task kind: nobody has answered anything about it yet" in out
    assert "has no model 'kind'" in err


def test_scheduled__begins_again_on_time_whatever_became_of_the_turn_before(digits: DigitsJob) -> None:
    path, waited, clock = digits.folder / "job.yaml", list[float](), [0.0]
    path.write_text(SPEC)

    def elapsed() -> float:
        clock[0] += 7.0  # what everything takes
        return clock[0]

    outside = Outside(silent, now, sleep=waited.append, elapsed=elapsed)
    seen = list(islice(scheduled(path, LoopOptions(), outside, every_s=60.0), 5))
    steps, turns = [one for one in seen if isinstance(one, Step)], [one for one in seen if isinstance(one, Turn)]
    assert [step.text for step in steps] == ["kind: task kind: nobody has answered anything about it yet"] * 3
    assert [turn.steps for turn in turns] == [(steps[0],), (steps[1],)]
    assert all("has no model 'kind'" in str(turn.error) for turn in turns)
    assert waited == [60.0 - 7.0] * 2


def test_scheduled__what_can_never_be_done_ends_it(digits: DigitsJob) -> None:
    path = digits.folder / "job.yaml"
    path.write_text(SPEC.replace("model: models/kind@prod", "model: models/kind@3"))
    with pytest.raises(UsageError, match="which no gate can replace"):
        next(scheduled(path, LoopOptions(), Outside(silent, now), every_s=60.0))


def test_loop__every_so_often_says_what_ended_a_turn(
    digits: DigitsJob, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*given: Any, **more: Any) -> Iterator[Step | Turn]:
        return islice(scheduled(*given, **more), 4)

    monkeypatch.setattr(loop_module, "scheduled", twice)
    path = digits.folder / "job.yaml"
    path.write_text(SPEC)
    code, out, err = run(capsys, "loop", path, "--every", "1")
    assert code == 0
    assert out.splitlines() == ["round 1, learn: kind: task kind: nobody has answered anything about it yet"] * 2
    assert err.count("has no model 'kind'") == 2
    code, out, _ = run(capsys, "loop", path, "--every", "1", "--json")
    first, second = map(json.loads, out.splitlines())
    assert (code, first) == (0, second)
    assert [step["name"] for step in first["steps"]] == ["learn"]
    assert "has no model 'kind'" in first["ended_by"]["error"]
