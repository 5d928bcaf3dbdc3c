import json
from types import SimpleNamespace

import pytest

from winnow_jobs import render
from winnow_jobs.events import Note, Progress
from winnow_jobs.render import Screen, outcomes_text, rate_and_eta


def progress(items: int, now: int) -> Progress:
    return Progress(items, 100, items // 10, 10, now, {"done": items, "missing": 0})


def test_rate_and_eta__counts_only_what_this_driver_committed() -> None:
    assert rate_and_eta(progress(50, 10), 5.0) == "2.0 items/s, 0:00:25 left"
    assert rate_and_eta(progress(50, 0), 5.0) == ""


def test_rate_and_eta__nothing_is_left_only_at_the_end() -> None:
    assert rate_and_eta(progress(100, 100), 5.0) == "20.0 items/s"
    assert rate_and_eta(progress(99, 99), 0.5) == "198.0 items/s, 0:00:01 left"


def test_outcomes_text__leaves_out_what_did_not_happen() -> None:
    assert outcomes_text({"done": 3, "missing": 0, "failed": 1}) == "3 done, 1 failed"
    assert outcomes_text({}) == "nothing yet"


def test_screen__json_goes_to_stdout_and_notes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    assert screen.record({"job": "é"})
    screen.note("careful", warning=True)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"job": "é"}
    assert captured.err == "warning: careful\n"
    assert not Screen(as_json=False).record({"job": "x"})


def test_listening__plain_lines_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(as_json=False).listening() as listener:
        listener(Note("2 actors on cpu, loading models"))
        for items in (0, 10, 20, 100):
            listener(progress(items, items))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "2 actors on cpu, loading models"
    assert lines[1] == "0/100 items, 0/10 shards: nothing yet"
    assert lines[-1].startswith("100/100 items, 10/10 shards: 100 done")
    assert len(lines) == 3  # the ones between came within ten seconds


def test_listening__each_run_has_a_rate_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter((0.0, 10.0, 500.0, 510.0))
    monkeypatch.setattr(render, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with Screen(as_json=False).listening() as listener:
        for items in (0, 100, 0, 100):
            listener(progress(items, items))
    rates = [line for line in capsys.readouterr().err.splitlines() if line.endswith("(10.0 items/s)")]
    assert len(rates) == 2


def test_listening__a_bar_at_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    screen = Screen(as_json=False)
    assert screen.err.is_terminal
    with screen.listening() as listener:
        listener(Note("loading models"))
        listener(progress(30, 30))
    said = capsys.readouterr().err
    assert "loading models" in said
    assert "30/100" in said
