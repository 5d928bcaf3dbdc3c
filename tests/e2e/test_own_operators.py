"""The page about operators of one's own, followed to the letter: its files written, its commands run, its rows read."""

import json
import os
import re
import subprocess
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage
from skimage import data

from tests.e2e.winnow import DEADLINE_S, WINNOW
from winnow_jobs.cli import main
from winnow_jobs.runs import Runs
from winnow_jobs.verify.run import verify_run
from winnow_storage.blobs import open_store
from winnow_storage.uri import parse

PAGE = Path(__file__).parents[2] / "docs/own-operators.md"
THRESHOLD, NEAR = 150.0, 0.2


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def files() -> dict[str, str]:
    """Those blocks that say in their first line which file they are."""
    return {text.splitlines()[0].removeprefix("# "): text for kind in ("python", "yaml") for text in blocks(kind)}


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """The folder in which it was all done, and how the page's commands ended."""
    folder = tmp_path_factory.mktemp("acme")
    (folder / "acme").mkdir()
    (folder / "acme/__init__.py").touch()
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "photos").mkdir()
    for name, pixels in (("cat", data.chelsea()), ("cup", data.coffee()), ("rocket", data.rocket())):
        image = Image.fromarray(pixels).resize((240, 160))
        image.save(folder / f"photos/{name}.png")
        image.filter(ImageFilter.GaussianBlur(3)).save(folder / f"photos/{name}-blurred.png")
    path = f"{WINNOW.parent}{os.pathsep}{os.environ['PATH']}"
    commands = blocks("sh")[0].replace("PYTHONPATH=$PWD", f"PYTHONPATH=$PWD:{os.environ.get('PYTHONPATH', '')}")
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return folder, done


def test_page__the_operator_is_short() -> None:
    assert len(files()["acme/sharpness.py"].splitlines()) <= 60


def test_page__the_commands_end_well(followed: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    _, done = followed
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    for check in ("parameters", "batches", "bad image", "another process", "label studio"):
        assert f"ok    {check}:" in done.stdout


def test_page__the_rows_are_right(followed: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    folder, _ = followed
    query = blocks("sql")[0].replace("'out/", f"'{folder}/out/")
    rows = duckdb.sql(query).fetchall()
    assert sorted(key for key, _, _ in rows) == sorted(path.name for path in (folder / "photos").iterdir())
    for key, label, variance in rows:
        wanted = laplacian_variance(folder / "photos" / key)
        assert variance == pytest.approx(wanted, rel=0.05, abs=3)  # its grey is rounded: 20 / 12 of variance
        if abs(wanted - THRESHOLD) > 10:
            assert label == ("sharp" if wanted >= THRESHOLD else "blurred")
    assert {label for _, label, _ in rows} == {"sharp", "blurred"}


def test_page__its_predictions_are_routed_as_classes(
    followed: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder, _ = followed
    routes = pq.read_table(folder / "out/routes/0001.parquet").to_pylist()
    assert len(routes) == 6
    assert {route["operator"] for route in routes} == {"classify"}
    for route in routes:
        assert (route["route"] == "review") == (route["score"] < NEAR)


def test_page__the_run_is_sound_and_can_be_measured(
    followed: tuple[Path, "subprocess.CompletedProcess[str]"],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _ = followed
    assert verify_run(Runs(open_store(parse(str(folder / "out")))), "0001").findings == []
    monkeypatch.syspath_prepend(folder)
    truth = ["key,label"] + [
        f"{path.name},{'sharp' if laplacian_variance(path) >= THRESHOLD else 'blurred'}"
        for path in sorted((folder / "photos").iterdir())
    ]
    (folder / "truth.csv").write_text("\n".join(truth) + "\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(folder / "job.yaml"), "--truth", str(folder / "truth.csv"), "--json"])
    record = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0, record
    assert (record["operator"], record["task"]) == ("classify", "sharpness")


def laplacian_variance(path: Path) -> float:
    """By scipy, in floats."""
    grey = np.asarray(Image.open(path).convert("RGB"), np.float64) @ (0.299, 0.587, 0.114)
    return float(ndimage.laplace(grey, mode="mirror").var())
