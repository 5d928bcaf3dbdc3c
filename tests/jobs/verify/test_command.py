"""`winnow verify --clean`, `winnow status` and commands of runs that are nowhere, as a person types them."""

import json
import os
from pathlib import Path

import pytest

from tests.jobs.histories import Row, add_run, output_runs, spec
from winnow_jobs.cli import main
from winnow_storage.unfinished import OLD_S

JOB = """\
name: shelves
corpus: corpus
output: out
tasks: [{name: kind, operator: embed, model: builtin/fingerprint}]
"""


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_verify__clean_removes_what_dead_writers_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_run(output_runs(tmp_path), spec(tmp_path), [[Row("a.jpg")]])
    old, young = (tmp_path / "out/runs/0001/results" / f".tmp-{name}" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"x" * 1000)
    made = young.stat().st_mtime
    os.utime(old, (made - 2 * OLD_S,) * 2)
    _, out, _ = run_cli(capsys, "verify", "--all", "--no-index", "--output", tmp_path / "out")
    assert "1 unfinished file of writers that died, 0.0 MiB: winnow verify --all --clean SPEC removes them" in out
    assert old.exists()
    _, out, _ = run_cli(capsys, "verify", "--all", "--no-index", "--clean", "--output", tmp_path / "out", "--json")
    assert json.loads(out)["unfinished"] == {"files": 1, "bytes": 1000, "removed": True}
    assert (old.exists(), young.exists()) == (False, True)


def test_verify__clean_needs_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run_cli(capsys, "verify", "0001", "--clean", "--output", tmp_path / "out")
    assert (code, "so it needs --all" in err) == (2, True)


@pytest.mark.parametrize("known", [True, False])
def test_resume__a_run_that_is_nowhere(known: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    where = ["--output", tmp_path / "out"] if known else []
    code, out, err = run_cli(capsys, "resume", "0009", *where)
    assert (code, out) == (2, "")
    assert ("has no run 0009" if known else "the ledger knows no run 0009") in err
    assert "next: winnow" in err


def test_status__the_newest_of_many_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    for _ in range(23):
        add_run(output_runs(tmp_path), spec(tmp_path), [])
    code, out, _ = run_cli(capsys, "status", tmp_path / "job.yaml")
    lines = out.splitlines()
    assert (code, lines[1]) == (0, "the newest 20 of 23 runs; --json has them all")
    assert lines[-1].endswith("the listing only")
    assert [line.split()[0] for line in lines if line[:1] == "0"] == [f"{number:04d}" for number in range(4, 24)]
    code, out, _ = run_cli(capsys, "status", tmp_path / "job.yaml", "--json")
    assert len(json.loads(out)["runs"]) == 23
