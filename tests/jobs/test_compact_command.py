"""`winnow compact` as a person types it: its text, its record, its errors."""

import json
from pathlib import Path

import pytest

from tests.jobs.nights import night, write
from winnow_jobs.cli import main
from winnow_storage.blobs import open_store
from winnow_storage.uri import parse


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_winnow_compact__text_and_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local = open_store(parse(str(tmp_path / "out")))
    job = tmp_path / "job.yaml"
    job.write_text(
        "name: shelves\ncorpus: corpus\noutput: out\n"
        "tasks: [{name: kind, operator: embed, model: builtin/fingerprint}]\n"
    )
    code, out, _ = run_cli(capsys, "compact", job, "--json")
    assert (code, json.loads(out)["hint"]) == (2, "winnow run SPEC")
    write(local, night(1, "ab"), tmp_path)
    code, out, err = run_cli(capsys, "compact", job)
    assert code == 0
    assert out.splitlines()[0].startswith("shelves: wrote 2 rows in 1 file (0.0 MiB) of 1 run up to 0001")
    assert out.splitlines()[1:] == [
        "  pending: 1 item; gone: 0 items",
        f"current: {local.root}/current/00000001/part-*.parquet",
    ]
    assert "reading 2 shards of 1 run into" in err
    code, out, _ = run_cli(capsys, "compact", "--output", local.root.path, "--json")
    record = json.loads(out)
    assert (code, record["wrote"], record["number"], record["rows"]) == (0, False, 1, 2)
    code, out, _ = run_cli(capsys, "compact", job)
    assert (code, "nothing new is committed; there are 2 rows in 1 file (" in out) == (0, True)
    for number in (2, 3):
        write(local, night(number, "c"), tmp_path)
        code, out, _ = run_cli(capsys, "compact", job)
    assert out.splitlines()[-1] == (
        "older compactions, to remove with your store's own tool once nobody reads them: "
        f"{local.root}/current/00000001/"
    )


@pytest.mark.parametrize("both", [True, False])
def test_winnow_compact__a_spec_or_an_output(both: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [tmp_path / "job.yaml", "--output", tmp_path] if both else []
    code, out, _ = run_cli(capsys, "compact", *arguments, "--json")
    assert (code, json.loads(out)["error"]) == (2, "winnow compact takes a job spec or --output, one of them")
