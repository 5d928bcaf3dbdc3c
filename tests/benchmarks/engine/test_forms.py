"""A form goes on after a script that fails, and says how to do it again."""

import pytest

from tests.benchmarks.engine.forms import LONG, ROOT, SHORT, Script, run


def test_run__one_failing_script_stops_no_other(capfd: pytest.CaptureFixture[str]) -> None:
    failures = run([Script("scale", ("--set", "nothing=1")), Script("scale")])
    assert failures == ["scale ended with 1; again: python -m tests.benchmarks.engine.scale --set nothing=1"]
    out, err = capfd.readouterr()
    assert '"point": "7, cost model"' in out
    assert "scale: ended with 0" in err


def test_forms__name_scripts_that_exist() -> None:
    for script in (*SHORT, *LONG):
        assert (ROOT / "tests/benchmarks/engine" / f"{script.name.replace('.', '/')}.py").exists(), script
