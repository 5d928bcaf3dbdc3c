"""What a point's line says."""

import json

import pytest

from tests.benchmarks.engine.line import judge, say


@pytest.mark.parametrize(
    ("figure", "at_least", "at_most", "expected"),
    [
        (1.0, 1.0, None, (">= 1.0", True)),
        (0.9, 1.0, None, (">= 1.0", False)),
        (1.1, None, 1.0, ("<= 1.0", False)),
        (0.0, None, 0.0, ("<= 0.0", True)),
        (None, 1.0, None, (">= 1.0", None)),
        (1.0, None, None, ("reported only", None)),
    ],
)
def test_judge__cases(
    figure: float | None, at_least: float | None, at_most: float | None, expected: tuple[str, bool | None]
) -> None:
    assert judge(figure, at_least=at_least, at_most=at_most) == expected


def test_say__median_and_spread(capsys: pytest.CaptureFixture[str]) -> None:
    say("a point", [3.0, 1.0, 2.0], at_most=2.5, setup="somewhere", seconds=[1])
    line = json.loads(capsys.readouterr().out)
    assert (line["figure"], line["target"], line["holds"]) == (2.0, "<= 2.5", True)
    assert (line["spread"], line["seconds"]) == ([1.0, 2.0, 3.0], [1])
    assert "somewhere, 3 turns" in line["setup"]


def test_say__not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    say("a point", [], at_least=1.0, setup="not installed")
    line = json.loads(capsys.readouterr().out)
    assert (line["figure"], line["holds"]) == (None, None)
