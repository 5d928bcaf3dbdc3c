"""`winnow learn --heads` as a person types it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.head_learning.digits_job import DigitsJob, reserved
from winnow_jobs.cli import main

SPEC = """\
name: digits
corpus: corpus
output: out
registry: registry
tasks:
  - {name: look, operator: embed, model: builtin/fingerprint}
  - {name: kind, operator: classify, vectors: look, model: models/kind@prod}
"""


@pytest.fixture
def spec(digits: DigitsJob) -> Path:
    path = digits.folder / "job.yaml"
    path.write_text(SPEC)
    digits.answer(digits.keys[:100])
    digits.answer([key for key in digits.keys[100:] if key in reserved(digits)], "calibrate")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def ask(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    record: dict[str, Any] = json.loads(out)
    return record


def test_learn_heads__says_the_verdict_and_promotes(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "learn", spec, "--heads")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("kind: models/kind@1, head/linear from ")
    assert " labels of 10 classes; " in lines[0]
    assert "  gate: promote: there is no current model to compare it with" in lines
    assert any(line.startswith("  doubling the labels to ") for line in lines)
    assert lines[-1].startswith("  to use it: winnow learn SPEC --heads --promote STAGE")

    code, out, _ = run(capsys, "learn", spec, "--heads", "--promote", "prod")
    assert code == 0
    assert "kind: models/kind@1 (there already)" in out
    assert "  models/kind@prod is version 1 now; winnow run SPEC uses it" in out
    shown = ask(capsys, "models", "show", "kind@prod", "--registry", spec.parent / "registry")
    assert shown["history"][0]["why"] == "promote: there is no current model to compare it with"
    assert ask(capsys, "models", "verify", "--registry", spec.parent / "registry")["sound"]


def test_learn_heads__record(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = ask(capsys, "learn", spec, "--heads", "--tasks", "kind", "--promote", "prod", "--seed", "3")
    head = record["heads"]["kind"]
    assert (head["model"], head["promoted"], head["new"]) == ("models/kind@1", "prod", True)
    assert head["gate"]["promote"]
    assert head["gate"]["gold"] > 30
    assert head["stopping"]["advice"] in ("go_on", "open", "enough")
    assert record["refused"] == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "winnow learn: nothing to learn was named"),
        (("--heads", "--calibrate"), "winnow learn: both --calibrate and --heads were named"),
        (("--heads", "--truth", "t.csv"), "--truth belongs to --calibrate"),
        (("--calibrate", "--promote", "prod"), "--promote belongs to --heads"),
        (("--heads", "--tasks", "kin"), "--tasks 'kin': the spec has no such task"),
    ],
)
def test_learn__options_that_do_not_go_together(
    spec: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    code, _, err = run(capsys, "learn", spec, *options)
    assert code == 2
    assert message in err
