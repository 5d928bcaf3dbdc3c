"""`winnow models`, through the frontier that turns errors into messages and exit codes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from winnow_jobs.cli import main
from winnow_workers.models.model_file import ModelCard, Preprocessing, encode_model, read_card


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any, str]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(captured.out), captured.err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    card = ModelCard(
        architecture="builtin/digit_cnn",
        labels=("a", "b"),
        preprocessing=Preprocessing(height_px=32, width_px=32, channels=1, mean=(0.5,), std=(0.5,)),
    )
    path = tmp_path / "model.safetensors"
    path.write_bytes(encode_model({"weight": torch.zeros(2)}, card))
    return path


def test_add_list_show_promote(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    registry = ("--registry", tmp_path / "registry")
    code, added, _ = run(capsys, "models", "add", "kind", model, "--stage", "prod", *registry)
    assert (code, added["version"], added["stages"]) == (0, "1", ["prod"])
    assert added["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    model.write_bytes(encode_model({"weight": torch.ones(2)}, ModelCard(architecture="builtin/digit_cnn")))
    _, second, _ = run(capsys, "models", "add", "kind", model, *registry)
    assert (second["version"], second["stages"]) == ("2", [])
    _, shown, _ = run(capsys, "models", "show", "models/kind@prod", *registry)
    assert (shown["version"], shown["card"]["labels"]) == ("1", ["a", "b"])
    _, promoted, _ = run(capsys, "models", "promote", "kind", "2", "prod", *registry)
    assert promoted["version"] == "2"
    _, listed, _ = run(capsys, "models", "list", *registry)
    assert [(one["name"], one["version"], one["stages"]) for one in listed["models"]] == [
        ("kind", "1", []),
        ("kind", "2", ["prod"]),
    ]


def test_add__a_state_dict_needs_its_digest_and_a_card(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(3)}, weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    command = ("models", "add", "kind", weights, "--registry", tmp_path / "registry")
    code, refused, _ = run(capsys, *command)
    assert (code, refused["exit_code"]) == (2, 2)
    assert "only read with its digest given" in refused["error"]
    code, refused, _ = run(capsys, *command, "--sha256", "0" * 64)
    assert (code, f"has the sha256 {digest}" in refused["error"]) == (2, True)
    code, refused, _ = run(capsys, *command, "--sha256", digest)
    assert (code, "says nothing of its architecture" in refused["error"]) == (2, True)
    card = tmp_path / "card.json"
    card.write_text('{"architecture": "torchvision/resnet18", "labels": ["x"]}')
    code, added, _ = run(capsys, *command, "--sha256", digest, "--card", card)
    assert code == 0
    stored = Path(added["uri"].removeprefix("file://")).read_bytes()
    described = read_card(stored, where="stored")
    assert described is not None
    assert described.architecture == "torchvision/resnet18"
    card.write_text('{"architecture": 3}')
    code, refused, _ = run(capsys, *command, "--sha256", digest, "--card", card)
    assert (code, "is not valid" in refused["error"]) == (2, True)


def test_add__a_missing_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, refused, _ = run(capsys, "models", "add", "kind", tmp_path / "absent", "--registry", tmp_path)
    assert code == 2
    assert "cannot be read" in refused["error"]
    code, refused, _ = run(capsys, "models", "show", "absent", "--registry", tmp_path)
    assert code == 2


def test_main__a_defect_is_said_to_be_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(uri: str | None) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("winnow_jobs.commands.models.open_registry", broken)
    code, said, err = run(capsys, "models", "list", "--debug")
    assert (code, said["exit_code"]) == (1, 1)
    assert said["error"] == "ZeroDivisionError: division by zero"
    assert "report what it prints" in said["hint"]
    assert "Traceback" in err
