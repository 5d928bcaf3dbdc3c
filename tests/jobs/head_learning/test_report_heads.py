"""What the report shows of heads: their labels, what the gate said, which one is used; and `winnow report` itself."""

import json

import numpy as np
import pytest

from tests.jobs.head_learning.digits_job import DigitsJob, reserved
from tests.jobs.head_learning.test_learn_heads import learned
from tests.jobs.head_learning.test_learn_heads_command import SPEC, ask
from tests.jobs.test_report_evaluations import record
from tests.jobs.whole_nights import night
from winnow_jobs.head_learning.learn_heads import HeadOptions
from winnow_jobs.report_heads import head_views
from winnow_jobs.resolved import resolve_spec
from winnow_workers.heads import Head, Linear, load_head, save_head


def test_report__shows_every_version_of_a_head_and_evaluations(
    digits: DigitsJob, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = reserved(digits)
    digits.answer(digits.keys[:60])
    digits.answer([key for key in digits.keys[60:] if key in held_out], "calibrate")
    first = learned(digits)
    taught = load_head(digits.registry.read(first.entry))
    blind = Head(taught.labels, taught.embedding, Linear(np.zeros_like(taught.rule.weight), taught.rule.bias))
    entry = digits.registry.add("kind", save_head(blind), {})  # put there by hand: no gate looked at it
    digits.registry.promote("kind", entry.version, "prod")
    digits.answer([key for key in digits.keys[60:] if key not in held_out])
    passed = learned(digits, HeadOptions(stage="prod"))
    resolved = resolve_spec(digits.source())
    night(resolved)
    (view,) = head_views(digits.runs.plan("0002"))
    assert (view["task"], view["model"]) == ("kind", "kind")
    one, two, three = view["versions"]
    assert (one["labels"], one["stages"], one["predicted_this_run"]) == (first.labels, [], False)
    assert one["gate"]["why"] == "there is no current model to compare it with"
    assert (two["gate"], two["labels"]) == (None, None)
    assert (three["labels"], three["stages"], three["predicted_this_run"]) == (passed.labels, ["prod"], True)
    assert (three["gate"]["passed"], three["gate"]["against"]) == (True, "2")
    assert three["gate"]["accuracy"] > three["gate"]["current_accuracy"]
    assert head_views(digits.runs.plan("0001")) == []  # it only embedded

    job, out, evaluation = (digits.folder / name for name in ("job.yaml", "report.html", "night.json"))
    job.write_text(SPEC)
    evaluation.write_text(json.dumps(record(7)))
    told = ask(capsys, "report", job, "--out", out, "--evaluation", f"before={evaluation}", "--evaluation", evaluation)
    assert [row["name"] for row in told["evaluations"][0]["rows"]] == ["before", "night"]
    for text in ("models/kind@3", "no gate looked at it", "70.0 %"):
        assert text in out.read_text()
