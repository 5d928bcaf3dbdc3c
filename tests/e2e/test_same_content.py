"""A corpus in which every image lies twice, with two actors: each is predicted once, whoever is stopped meanwhile."""

import os
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.test_interrupted import wait_for_commits
from tests.e2e.winnow import start, winnow
from tests.faults import tally
from tests.jobs.whole_nights import night, rows
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.spec_source import load_spec

SPEC = """\
name: twice
corpus: {{uri: photos, same_content: {same_content}}}
output: {output}
ledger: sqlite:///ledger.db
tasks:
  - {{name: vector, operator: embed, model: builtin/fingerprint}}
  - {{name: tally, operator: "tests.faults.tally:TallyOperator"}}
run: {{actors: 2, shard_items: 3}}
"""
ROOT = Path(__file__).parents[2]
IMAGES = 12


@pytest.fixture
def job(tmp_path: Path) -> Path:
    for number in range(IMAGES):
        path = tally.save_numbered(tmp_path / "photos", number)
        path.with_name(f"{number:06d}-again.png").write_bytes(path.read_bytes())
    return write(tmp_path, "once")


def write(folder: Path, same_content: str) -> Path:
    path = folder / f"{same_content}.yaml"
    path.write_text(SPEC.format(same_content=same_content, output=same_content))
    return path


def environ(folder: Path, item_s: float) -> Mapping[str, str]:
    return {"PYTHONPATH": str(ROOT), tally.LOG: str(folder / "log"), tally.ITEM_S: str(item_s)}


def predicted(folder: Path) -> Counter[int]:
    """How often each image was predicted."""
    return Counter(int(line.split()[0]) for line in (folder / "log").read_text().splitlines())


def same_rows(folder: Path) -> bool:
    """Whether the run gave what a run without copies gives, apart from saying so."""
    each, once = (resolve_spec(load_spec(write(folder, same_content))) for same_content in ("each", "once"))
    night(each)
    ours, theirs = ([row | {"copied_from": None, "shard": 0} for row in rows(one)] for one in (once, each))
    return ours == theirs


def test_run__what_lies_there_twice_is_predicted_once(job: Path, tmp_path: Path) -> None:
    planned = winnow("plan", job, "--json", cwd=tmp_path, environ=environ(tmp_path, 0.0))
    assert (planned.record["due_items"], planned.record["copies"]) == (2 * IMAGES, IMAGES)
    ended = winnow("run", job, "--json", cwd=tmp_path, environ=environ(tmp_path, 0.05))
    assert ended.code == 0, ended.err
    assert (ended.record["items"], ended.record["copied"]) == (2 * IMAGES, IMAGES)
    assert predicted(tmp_path) == dict.fromkeys(range(IMAGES), 1)
    assert same_rows(tmp_path)


@pytest.mark.long
def test_run__a_driver_that_is_killed_leaves_the_copies_to_the_next(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ(tmp_path, 0.2).items():
        monkeypatch.setenv(name, value)
    for committed in (2, 5):
        driver = start("run", job, cwd=tmp_path)
        wait_for_commits(tmp_path / "once/runs/0001/results", committed)
        os.kill(driver.pid, signal.SIGKILL)
        driver.communicate()
    ended = winnow("run", job, "--json", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert (ended.record["items"], ended.record["copied"]) == (2 * IMAGES, IMAGES)
    assert same_rows(tmp_path)
