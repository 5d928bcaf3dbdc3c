"""Commands are imported when they are asked for: nobody waits for those of others."""

import subprocess
import sys

import pytest
import typer

from winnow_jobs.cli import COMMANDS, app, main
from winnow_jobs.commands.lazy import lazy_group, named


@pytest.mark.parametrize("name", COMMANDS)
def test_command__each_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f" {name} [" in capsys.readouterr().out  # as it is called, after the name of the program


def test_cli__imports_no_command() -> None:
    told = "import sys, winnow_jobs.cli; print([one for one in sys.modules if one.startswith('winnow_jobs.commands.')])"
    done = subprocess.run([sys.executable, "-c", told], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "['winnow_jobs.commands.lazy']"


def test_cli__says_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["exlpain"])
    assert ended.value.code == 2
    assert "Did you mean 'explain'?" in capsys.readouterr().err


def test_cli__says_which_choices_there_are_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "labels", "job.yaml", "--to", "here", "--format", "cvs"])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "Invalid value for '--format': 'cvs' is not one of 'parquet', 'coco', 'csv', 'masks', 'text'." in said


def test_lazy_group__keeps_the_order() -> None:
    group = typer.main.get_command(app)
    assert list(group.commands) == list(COMMANDS)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        named("lazy:nothing")()
    assert issubclass(lazy_group({}), typer.core.TyperGroup)
