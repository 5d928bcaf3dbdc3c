"""Evaluations side by side, from the records that `winnow evaluate --json` writes."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from winnow_jobs.evaluation.compare import Pair, compare
from winnow_jobs.evaluation.true_items import TrueItem
from winnow_jobs.report_evaluations import evaluation_of, evaluation_views, read_evaluation
from winnow_storage.errors import UsageError
from winnow_workers.evaluation.acceptance import Acceptance


def record(right: int, of: int = 10, *, truth: str = "truth.csv", task: str = "kind") -> dict[str, Any]:
    """Of so many predictions, of which the surest ones are right."""
    said = [("cat" if place < right else "dog", 1 - place / 100) for place in range(of)]
    pairs = [
        Pair(str(at), TrueItem(label="cat"), {"label": label, "top": [{"label": label}], "p_ok": None, "score": score})
        for at, (label, score) in enumerate(said)
    ]
    found = compare(pairs, "classify", Acceptance())
    return {"task": task, "operator": "classify", "predictions": f"run {right}", "truth": truth, **found}


def test_evaluation_views__side_by_side_the_last_one_in_the_first_colour() -> None:
    given = [evaluation_of(name, record(right)) for name, right in (("before", 4), ("after", 8))]
    (view,) = evaluation_views(given)
    assert [(one["name"], one["right"], one["sure_error"]) for one in view["rows"]] == [
        ("before", 0.4, pytest.approx(0.2)),
        ("after", 0.8, 0.0),
    ]
    assert [one["colour"] for one in view["rows"]] == ["curve second", "curve"]
    assert view["rows"][0]["interval"] == [pytest.approx(0.1216, abs=1e-4), pytest.approx(0.7376, abs=1e-4)]
    lines = list(ElementTree.fromstring(view["chart"]).iter("polyline"))
    assert [one.get("class") for one in lines] == ["curve second", "curve"]


def test_evaluation_views__apart_by_task_and_truth_and_more_than_there_are_colours() -> None:
    given = [evaluation_of(str(right), record(right)) for right in range(1, 7)]
    given += [evaluation_of("other", record(3, truth="other.csv")), evaluation_of("parts", record(3, task="parts"))]
    views = evaluation_views(given)
    assert [(one["task"], one["truth"], len(one["rows"])) for one in views] == [
        ("kind", "truth.csv", 6),
        ("kind", "other.csv", 1),
        ("parts", "truth.csv", 1),
    ]
    assert [one["colour"] for one in views[0]["rows"][:3]] == ["", "", "curve fourth"]
    assert len(list(ElementTree.fromstring(views[0]["chart"]).iter("polyline"))) == 4
    assert evaluation_views([]) == []


def test_read_evaluation__by_its_name_or_its_files(tmp_path: Path) -> None:
    file = tmp_path / "night.json"
    full = {name: value for name, value in record(5).items() if name != "per_item"}
    file.write_text(json.dumps(full | {"job": "shelf-audit", "broken": []}))
    assert read_evaluation(f"before={file}").name == "before"
    one = read_evaluation(str(file))
    assert (one.name, one.record.n, one.record.measures.ok_share) == ("night", 10, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is no record of an evaluation: Expecting property name"),
        ('{"task": "kind"}', "is no record of an evaluation: operator: Field required"),
    ],
)
def test_read_evaluation__says_what_is_wrong(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "before.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=message) as raised:
        read_evaluation(f"before={file}")
    assert "winnow evaluate SPEC" in str(raised.value.hint)
