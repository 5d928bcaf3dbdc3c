"""A truth for `winnow learn`: read as `winnow evaluate` reads it, so that both call the same predictions right."""

from pathlib import Path
from typing import Any

import pytest

from winnow_jobs.given_truth import GivenTruth
from winnow_jobs.resolved import ResolvedTask
from winnow_storage.errors import UsageError
from winnow_workers.models.resolve import resolve_model

TREE = {"animal": None, "dog": "animal", "cat": "animal"}


def asked(operator: str, **params: Any) -> ResolvedTask:
    model = resolve_model("builtin/fingerprint")
    return ResolvedTask(name="it", operator=operator, revision=1, params=params, model=model)


def said(folder: Path, text: str, task: ResolvedTask, field: str) -> dict[str, Any]:
    """By key, what a CSV of this text says in a field of a label's value."""
    file = folder / "truth.csv"
    file.write_text(text)
    return {key: one[field] for key, (one,) in GivenTruth(file).of(task).values.items()}


def test_of__verdicts_in_words(tmp_path: Path) -> None:
    text = "key,anomalous\na,good\nb,defect\nc,false\nd,1\n"
    wanted = {"a": False, "b": True, "c": False, "d": True}
    assert said(tmp_path, text, asked("anomaly"), "is_anomalous") == wanted


@pytest.mark.parametrize("cells", [("0042", "1.50"), ("01", "02"), ("True", "false"), ("2026-01-01", "NA")])
def test_of__cells_are_text_as_they_are_written(tmp_path: Path, cells: tuple[str, str]) -> None:
    wanted = {str(place): cell for place, cell in enumerate(cells)}
    lines = "".join(f"{key},{cell}\n" for key, cell in wanted.items())
    assert said(tmp_path, f"key,text\n{lines}", asked("ocr"), "full_text") == wanted
    assert said(tmp_path, f"key,label\n{lines}", asked("classify"), "label") == wanted
    keys = said(tmp_path, "key,label\n" + "".join(f"{cell},a\n" for cell in cells), asked("classify"), "label")
    assert set(keys) == set(cells)


def test_of__paths_sets_and_a_column_for_each_label(tmp_path: Path) -> None:
    tree = asked("classify", tree=TREE)
    assert said(tmp_path, "key,path\na,animal > dog\n", tree, "path") == {"a": ["animal", "dog"]}
    assert said(tmp_path, "key,label\na,dog\n", tree, "path") == {"a": ["animal", "dog"]}
    assert said(tmp_path, "key,cat,dog\na,1,1\nb,0,0\n", asked("classify"), "labels") == {"a": ["cat", "dog"], "b": []}
    assert said(tmp_path, "key,labels\na,dog|cat\nb,\n", asked("classify"), "labels") == {"a": ["cat", "dog"], "b": []}


def test_of__rows_of_other_operators_are_not_about_it(tmp_path: Path) -> None:
    text = "key,operator,label,text\na,classify,cat,\na,ocr,,x\n"
    assert said(tmp_path, text, asked("ocr"), "full_text") == {"a": "x"}
    assert said(tmp_path, text, asked("classify"), "label") == {"a": "cat"}


@pytest.mark.parametrize(
    ("operator", "text", "message"),
    [
        ("anomaly", "key,anomalous\na,good\nb,perhaps\n", "truth.csv:3: 'perhaps' is no verdict"),
        ("anomaly", "key,anomalous\na,good\na,defect\n", "truth.csv:3: a stands on line 2 already"),
        ("classify", "key,label\na,x\nb,y\na,y\n", "truth.csv:4: a stands on line 2 already"),
        ("classify", "key,label\na,\n", "truth.csv:2: the label is empty"),
        ("ocr", "key,label\na,x\n", "truth.csv:1: the columns are key, label"),
        ("ocr", "key,operator,text\na,anomaly,x\n", "it has no rows about ocr"),
    ],
)
def test_of__what_cannot_be_meant_is_refused(tmp_path: Path, operator: str, text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        said(tmp_path, text, asked(operator), "label")
    assert message in raised.value.message


def test_of__labels_that_the_tree_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the label 'pug' of a is not in the task's tree"):
        said(tmp_path, "key,label\na,pug\n", asked("classify", tree=TREE), "label")


def test_of__a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "truth.txt").write_text("key,boxes\n")
    for operator in ("ocr", "detect"):
        with pytest.raises(UsageError, match=r"truth\.txt: no t"):
            GivenTruth(tmp_path / "truth.txt").of(asked(operator))
