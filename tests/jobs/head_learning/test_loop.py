"""What a loop refuses before it does anything; the whole of it runs against a real Label Studio, in the benchmarks."""

from pathlib import Path

import pytest

from tests.jobs.head_learning.digits_job import DigitsJob
from tests.jobs.head_learning.test_learn_heads_command import SPEC, run


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
