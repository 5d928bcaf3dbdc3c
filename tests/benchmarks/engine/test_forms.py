"""A form goes on after a script that fails, and says how to do it again."""

import re
from pathlib import Path

import pytest

from tests.benchmarks.engine.forms import LONG, ROOT, SHORT, Script, run


def test_run__one_failing_script_stops_no_other(capfd: pytest.CaptureFixture[str]) -> None:
    failures = run([Script("scale", ("--set", "nothing=1")), Script("scale")])
    assert failures == ["scale ended with 1; again: python -m tests.benchmarks.engine.scale --set nothing=1"]
    out, err = capfd.readouterr()
    assert '"point": "7, cost model"' in out
    assert "scale: ended with 0" in err


@pytest.mark.parametrize("form", [SHORT, LONG])
def test_forms__every_point_of_the_issue_has_a_script_that_says_so(form: tuple[Script, ...]) -> None:
    said = {int(number) for script in form for number in re.findall(r'f?"(\d+), ', place_of(script).read_text())}
    assert said == set(range(1, 11))


def place_of(script: Script) -> Path:
    return ROOT / "tests/benchmarks/engine" / f"{script.name.replace('.', '/')}.py"
