"""To which images answers spread, beside a plain search of the same vectors."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.jobs.head_learning.digits_job import DigitsJob, make_digits
from winnow_jobs.cli import main
from winnow_jobs.similar.space import current_space

LEAST = 0.86
SPEC = """\
name: digits
corpus: corpus
output: out
registry: registry
tasks:
  - {name: look, operator: embed, model: builtin/fingerprint}
  - {name: kind, operator: classify, vectors: look, model: models/kind@prod}
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DigitsJob:
    made = make_digits(tmp_path_factory.mktemp("digits") / "job", 200)
    made.answer(made.keys[:80])
    (made.folder / "job.yaml").write_text(SPEC)
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["export", "labels", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def plainly(digits: DigitsJob) -> tuple[dict[str, tuple[str, str]], int]:
    """Of each image that nobody answered: the answer and key of the nearest; and how many contradict each other."""
    vectors = {}
    for block in current_space(digits.runs, "look").vectors.blocks():
        unit = block.vectors / np.linalg.norm(block.vectors, axis=1, keepdims=True)
        vectors |= dict(zip(block.rows["key"].to_pylist(), unit, strict=True))
    answered, found, contradicting = digits.keys[:80], dict[str, tuple[str, str]](), 0
    for key in digits.keys[80:]:
        near = {one: float(vectors[key] @ vectors[one]) for one in answered if vectors[key] @ vectors[one] >= LEAST}
        if len({one[5] for one in near}) == 1:
            best = max(near, key=lambda one: near[one])
            found[key] = (best[5], best)
        elif near:
            contradicting += 1
    return found, contradicting


def test_spread__gives_near_duplicates_the_answer_of_the_nearest(
    digits: DigitsJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, contradicting = plainly(digits)
    assert len(expected) > 5
    assert contradicting > 0
    file = tmp_path / "kind.csv"
    code, _, err = run(capsys, digits.folder / "job.yaml", "--format", "csv", "--to", file, "--spread", str(LEAST))
    assert code == 0, err
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert {row["key"]: (row["label"], row["like"]) for row in rows if row["like"]} == expected
    assert sum(not row["like"] for row in rows) == 80
    assert {row["purposes"] for row in rows if row["like"]} == {""}
    assert f"{len(expected)} images have the answer about kind of one they are like" in err
    assert f"; {contradicting} more are like several whose answers differ" in err


def test_spread__of_parquet_names_the_labels_that_it_comes_from(
    digits: DigitsJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kind.parquet"
    arguments: list[Any] = [digits.folder / "job.yaml", "--to", file, "--only", "consensus", "--spread", str(LEAST)]
    code, out, _ = run(capsys, *arguments, "--json")
    expected, contradicting = plainly(digits)
    (task,) = json.loads(out)["tasks"]
    assert (code, task["items"], task["spread"], task["contradicting"]) == (0, 80 + len(expected), len(expected),
                                                                           contradicting)  # fmt: skip
    of = {row["key"]: row for row in pq.read_table(file).to_pylist()}
    for key, (label, like) in expected.items():
        assert (json.loads(of[key]["value"]), of[key]["like"]) == ({"label": label}, like)
        assert of[key]["labels"] == of[like]["labels"]
        assert of[like]["like"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--spread", "0.99"], "--spread is for one answer an image, of classes and verdicts"),
        (["--format", "coco", "--spread", "0.99"], "--spread is for one answer an image, of classes and verdicts"),
        (["--format", "csv", "--vectors", "look"], "--vectors belongs to --spread"),
        (["--format", "csv", "--spread", "0.99", "--vectors", "lok"], "no run has a task 'lok'"),
    ],
)
def test_spread__refuses_what_it_cannot_do(
    digits: DigitsJob, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, _, err = run(capsys, digits.folder / "job.yaml", "--to", tmp_path / "x", *arguments)
    assert code == 2
    assert message in err
