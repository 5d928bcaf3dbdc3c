"""Do the demo's models come out the same every time, and are they good on what they never saw?"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.demo_assets import demo_corpus_dir, demo_models_dir
from tests.workers.operators.making import opened
from winnow_jobs.demo import train, train_anomaly, train_digits, train_embedder, train_segmenter
from winnow_jobs.demo.show import TARGETS
from winnow_jobs.demo.sources import Digits, coins, digits, pictures, texture
from winnow_jobs.demo.train_digits import fit_temperature
from winnow_jobs.quality import measure
from winnow_storage.schemas import prediction_type
from winnow_workers.decode import DecodeLimits, decode
from winnow_workers.models.model_file import decode_model
from winnow_workers.operator import View

pytestmark = pytest.mark.timeout(900)  # the first test that needs the models trains them: a minute on an idle machine

FEWER: dict[str, dict[str, object]] = {
    "digits": {"_DRAWN_PER_DIGIT": 1, "_EPOCHS": 1},
    "shapes": {"_SCENES": 8, "_STEPS": 4},
    "textures": {"_PASTED": 8, "_STEPS": 4, "_BANK": 50, "_NORMAL_CROPS": 2, "_HELD_OUT_CROPS": 2},
    "photos": {"_WINDOWS": 40, "_STEPS": 3},
}
MODULES = {"digits": train_digits, "shapes": train_segmenter, "textures": train_anomaly, "photos": train_embedder}
OPERATORS = {"digits": "classify", "shapes": "segment", "textures": "anomaly", "text": "ocr"}


@pytest.fixture(scope="module")
def place() -> Path:
    return demo_corpus_dir()


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trainers that take a few steps; this process's threads and random state are put back afterwards."""
    for name, constants in FEWER.items():
        for constant, value in constants.items():
            monkeypatch.setattr(MODULES[name], constant, value)
    monkeypatch.setattr(train_digits, "digits", lambda part: Digits(digits(part).inks[:150], digits(part).labels[:150]))
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", sorted(FEWER))
def test_train_one__equal_seeds_give_equal_bytes(name: str, short_training: None) -> None:
    first = train.train_one(name, 0)
    assert train.train_one(name, 0) == first
    assert train.train_one(name, 1) != first


def test_train_models__every_file_says_how_to_use_it() -> None:
    for name in train.TRAINERS:
        _, card = decode_model((demo_models_dir() / f"{name}.safetensors").read_bytes(), where=name)
        assert card is not None
        assert card.preprocessing is not None
        assert card.trained_on
    _, card = decode_model((demo_models_dir() / "digits.safetensors").read_bytes(), where="digits")
    assert card is not None
    assert card.calibrator is not None
    assert card.calibrator.fitted_on >= 300


def test_fit_temperature__undoes_a_known_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(20_000, 4, generator=generator)
    targets = torch.multinomial(honest.softmax(dim=1), 1, generator=generator)[:, 0]
    assert fit_temperature(honest * 3.0, targets) == pytest.approx(3.0, rel=0.1)


def test_sources__parts_share_no_pixels() -> None:
    parts: list[Digits] = [digits("training"), digits("held_out"), digits("evaluation")]
    assert sum(len(part.labels) for part in parts) == 1797
    for kind in ("brick", "grass", "gravel"):
        assert not np.shares_memory(texture(kind, "training"), texture(kind, "evaluation"))
    assert (len(coins("training")), len(coins("evaluation"))) == (11, 11)
    for mine in pictures("training"):
        assert not any(np.shares_memory(mine, other) for other in pictures("evaluation"))


@pytest.mark.parametrize(("name", "what"), [("digits", "accuracy"), ("shapes", "mean IoU"), ("textures", "AUROC")])
def test_models__reach_the_demo_targets_on_the_evaluation_part(place: Path, name: str, what: str) -> None:
    model = str(demo_models_dir() / f"{name}.safetensors")
    got = _measured(place, OPERATORS[name], model=model)
    assert got.name == what
    assert TARGETS[what].met(got.value), got


def test_text__clean_images_are_read_within_the_target(place: Path) -> None:
    got = _measured(place, "ocr", every=4)
    assert got.n >= 7
    assert TARGETS["character error"].met(got.value), got


def test_photos__the_nearest_image_is_a_view_of_the_same_photograph(place: Path) -> None:
    rows, structs = _predicted(place, "embed", model=str(demo_models_dir() / "photos.safetensors"))
    vectors = np.stack([np.asarray(struct["vector"], np.float32) for struct in structs])
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -2)
    same = [row["label"] == rows[nearest]["label"] for row, nearest in zip(rows, likeness.argmax(axis=1), strict=True)]
    assert np.mean(same) >= 0.95


def _measured(place: Path, name: str, *, model: str | None = None, every: int = 1) -> Any:
    rows, structs = _predicted(place, name, model=model, every=every)
    results = pa.table(
        {"key": [row["key"] for row in rows], "outcome": ["done"] * len(rows), "task": pa.array(structs)}
    )
    known = pa.Table.from_pylist(rows).drop_columns("expected_outcome")
    (one,) = measure(known, results, {"task": name})
    return one


def _predicted(
    place: Path, name: str, *, model: str | None = None, every: int = 1
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The truth of the operator's images, and its predictions of them as structs."""
    operator = opened(name, model)
    rows = [row for row in pq.read_table(place / "truth.parquet").to_pylist() if row["operator"] == name][::every]
    views = []
    for row in rows:
        data = (place / "corpus" / row["key"]).read_bytes()
        decoded = decode(data, needed_side_px=operator.needed_side_px, limits=DecodeLimits())
        views.append(View(decoded.pixels, decoded.width_px, decoded.height_px))
    size = operator.batch_size
    predictions = [one for start in range(0, len(views), size) for one in operator.run(views[start : start + size])]
    structs = [{"error": None, "score": one.score, **one.fields} for one in predictions]
    return rows, pa.array(structs, type=prediction_type(operator.fields())).to_pylist()
