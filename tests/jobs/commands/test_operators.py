"""Does `winnow operators` list the whole catalogue, and `check` say what an operator does not keep?"""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from winnow_jobs.cli import main
from winnow_workers.catalogue import OPERATORS

BAD = "tests.workers.contract.bad_operators"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as ended:
        main(["operators", *arguments])
    return ended.value.code, capsys.readouterr().out


def test_operators__json_lists_all_with_their_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = said(capsys, "--json")
    assert code == 0
    records = [json.loads(line) for line in out.splitlines()]
    assert [one["operator"] for one in records] == list(OPERATORS)
    for one in records:
        kind = OPERATORS[one["operator"]]
        assert one["default_model"] == kind.default_model
        assert set(one["parameters"]["properties"]) == set(kind.params_type.model_fields)


def test_check__a_built_in_operator_on_images_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    code, out = said(capsys, "check", "embed", "--model", "builtin/fingerprint", "--images", str(tmp_path), "--json")
    record = json.loads(out)
    assert (code, record["kept"], record["images"]) == (0, True, 12), record
    assert {one["check"]: one["ok"] for one in record["checks"]}["label studio"] is True
    assert all(one["why"] for one in record["checks"])


def test_check__answers_of_people_need_labels(capsys: pytest.CaptureFixture[str]) -> None:
    model = ("--model", "torchvision/squeezenet1_1", "--weights", "{random: 1}")
    small = "input: {height_px: 64, width_px: 64}"
    for params, ok in (("{" + small + "}", None), ("{" + small + ", labels: [a, b]}", True)):
        code, out = said(capsys, "check", "classify", *model, "--params", params, "--json")
        found = {one["check"]: one for one in json.loads(out)["checks"]}
        assert (code, found["label studio"]["ok"]) == (0, ok), found


def test_check__says_what_why_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = said(capsys, "check", f"{BAD}:ByNeighbour")
    assert code == 1
    lines = out.splitlines()
    failed = lines.index("FAIL  batches: batch size changes with memory and device, rows must not")
    assert "alone in a batch an image gets another prediction: image " in lines[failed + 1]
    assert "next: treat every view by itself" in lines[failed + 2]


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        (("no.such:Operator",), "cannot be imported: No module named 'no'", "PYTHONPATH"),
        ((f"{BAD}:Nothing",), "has no attribute 'Nothing'", "PYTHONPATH"),
        (("tests.jobs.test_words:counted",), "is no operator", "extends winnow_workers.operator.Operator"),
        (("clasify",), "there is no operator 'clasify'", "did you mean 'classify'"),
        (("classify",), "the task names no model", "torchvision/NAME"),
        (("embed", "--params", "[1]"), "--params [1]: not keys with values", "--params '{key: value}'"),
        (("embed", "--params", "{a"), "--params {a: ", "--params '{key: value}'"),
        (("embed", "--params", "{dtyp: float32}"), "dtyp: Extra inputs", "the parameters are: "),
        (("embed", "--device", "tpu"), "--device tpu: there is no such device", "cpu or cuda"),
        (("embed", "--model", "builtin/fingerprint", "--images", "no/where"), "no image there can be read", "folder"),
    ],
)
def test_check__what_cannot_be_checked(
    arguments: tuple[str, ...], what: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = said(capsys, "check", *arguments, "--json")
    record = json.loads(out)
    assert code == record["exit_code"] == 2
    assert what in record["error"]
    assert hint in record["hint"]
