"""What a loop learns beside heads, and what it says that nobody asked for: a real Label Studio, no Ray."""

from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.jobs.head_learning.digits_job import DigitsJob, put_first_head, write_loop_spec
from winnow_jobs.commands.options import now
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.events import Event, Note, silent
from winnow_jobs.loop import LoopOptions, Outside, loop
from winnow_jobs.routes import iter_routes


def test_loop__learns_how_sure_one_may_be_where_a_policy_asks_for_it(
    digits: DigitsJob, studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp()
    put_first_head(digits.registry, digits, 200)
    digits.answer(digits.keys, "calibrate")
    spec = write_loop_spec(digits.folder, url=studio.url, root=root, budget=5, gold=0.9, policy="{min_p_ok: 0.8}")
    steps = list(islice(loop(spec, LoopOptions(rounds=2), Outside(silent, now)), 6))  # the first round
    assert [step.name for step in steps] == ["run", "pull", "consensus", "learn", "calibrate", "run"]
    learned = steps[4].record
    assert steps[4].text.startswith(f"kind: {learned['calibrator']}, ")
    assert learned["fitted_on"]["purposes"] == ["calibrate"]
    routes = rows_of_kind(digits, steps[5].record["run_id"])
    assert {row["calibrator"] for row in routes} == {learned["calibrator"]}
    assert {row["route"] for row in routes if row["reason"] == "p_ok_high"} == {"accept"}
    assert "uncalibrated" in {row["reason"] for row in rows_of_kind(digits, steps[0].record["run_id"])}


def test_loop__tells_of_drift_in_the_run_where_it_begins(
    digits: DigitsJob, studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp()
    put_first_head(digits.registry, digits, 20)
    spec = write_loop_spec(digits.folder, url=studio.url, root=root, budget=5)
    said = list[Event]()
    steps = loop(spec, LoopOptions(rounds=1), Outside(said.append, now))
    first = next(steps)
    assert first.record["review"]["drift_alarm"] is None
    inverted(digits.folder / "corpus", digits.keys[:200])
    (last,) = [step for step in steps if step.name == "run"]
    alarm = last.record["review"]["drift_alarm"]
    assert (alarm["run_id"], alarm["moved"]) == (last.record["run_id"], ["scores"])
    told = [one for one in said if isinstance(one, Note) and one.text.startswith("drift in run ")]
    assert [(one.text, one.warning) for one in told] == [(alarm["text"], True)]


def rows_of_kind(digits: DigitsJob, run_id: str) -> list[dict[str, Any]]:
    batches = iter_routes(digits.runs.store, run_id, ["task", "route", "reason", "calibrator"])
    return [row for batch in batches for row in batch.to_pylist() if row["task"] == "kind"]


def inverted(corpus: Path, keys: list[str]) -> None:
    """Beside these images others, dark on light."""
    for key in keys:
        image = cv2.imread(str(corpus / key))
        assert image is not None
        cv2.imwrite(str(corpus / f"9{key[1:]}"), 255 - image)
