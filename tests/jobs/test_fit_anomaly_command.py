"""`winnow models fit-anomaly`: from a folder of normal images to a model of the registry that a run can use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from winnow_jobs.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any, str]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(captured.out), captured.err


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    folder = tmp_path / "normal"
    (folder / "more").mkdir(parents=True)
    for number in range(14):
        pixels = np.random.default_rng(number).normal(120, 8, (48, 64, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save((folder / "more" if number % 2 else folder) / f"{number:02d}.png")
    return folder


@pytest.mark.parametrize("method", ["patchcore", "padim"])
def test_fit_anomaly__registers_a_detector(
    capsys: pytest.CaptureFixture[str], normal: Path, tmp_path: Path, method: str
) -> None:
    (normal / "notes.txt").write_text("not an image", encoding="utf-8")
    fit = ("models", "fit-anomaly", "defect", "--images", normal, "--method", method, "--side", "64", "--stage", "prod")
    registry = ("--registry", tmp_path / "registry")
    code, said, err = run(capsys, *fit, "--features", "10", *registry)
    assert code == 0
    assert (said["version"], said["stages"], said["images"], said["left_out"]) == ("1", ["prod"], 14, 1)
    assert (said["held_out"], said["false_alarms"]) == (4, 0.2)
    assert "left out" in err
    assert "notes.txt" in err
    assert said["card"]["extra"]["method"] == method
    assert said["card"]["trained_on"] == "10 normal images, 4 more held out"
    code, shown, _ = run(capsys, "models", "show", "defect@prod", *registry)
    assert (code, shown["sha256"]) == (0, said["sha256"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backbone", "timm/resnet18"), "not where its weights come from"),
        (("--backbone", "timm/resnet1"), "timm has no model named 'resnet1'"),
        (("--weights", "random:x"), "'x' is no seed"),
        (("--weights", "nowhere.safetensors"), "there is no weights file"),
        (("--backbone", "transformers/x", "--weights", "random:1"), "brings its weights"),
        (("--images", "nowhere"), "nowhere is no folder"),
        (("--backbone", "torchvision/resnet18", "--weights", "random:1", "--layers", "layer9"), "has no layers"),
    ],
)
def test_fit_anomaly__bad_input(
    capsys: pytest.CaptureFixture[str], normal: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    fit = ("models", "fit-anomaly", "defect", "--images", normal, "--registry", tmp_path / "registry")
    code, said, _ = run(capsys, *fit, *arguments)
    assert code == 2, said
    assert message in said["error"]
    assert said["hint"]


def test_fit_anomaly__too_few_or_none(capsys: pytest.CaptureFixture[str], normal: Path, tmp_path: Path) -> None:
    fit = ("models", "fit-anomaly", "defect", "--registry", tmp_path / "registry", "--images")
    code, said, _ = run(capsys, *fit, normal / "more")
    assert (code, said["error"]) == (2, "7 normal images are too few for a detector")
    (tmp_path / "empty").mkdir()
    code, said, _ = run(capsys, *fit, tmp_path / "empty")
    assert code == 2
    assert "holds no image that can be read" in said["error"]
