"""Is a painted spot on a plain texture found, and where it is?"""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.operators.making import opened, view, write_model
from winnow_storage.errors import ModelError
from winnow_workers.models import patchcore, precision
from winnow_workers.models.model_file import ModelCard, Preprocessing
from winnow_workers.models.preprocess import to_tensor
from winnow_workers.operators.anomaly import find_regions

INPUT = Preprocessing(height_px=64, width_px=64)
CARD = ModelCard(architecture="builtin/patch_features", arguments={"width": 4}, preprocessing=INPUT)
PRECISIONS: tuple[dict[str, str], ...] = ({}, {"precision": "auto"})


def texture(seed: int, *, width: int = 128, height: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).normal(120, 8, (height, width, 3)).clip(0, 255).astype(np.uint8)


def spotted(seed: int) -> np.ndarray:
    pixels = texture(seed)
    pixels[24:48, 80:104] = (250, 20, 20)
    return pixels


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fitted(tmp_path_factory.mktemp("model") / "detector.safetensors", INPUT)


def fitted(path: Path, given: Preprocessing) -> str:
    """The path of a detector that saw textures through that input."""
    backbone = patchcore.build_backbone(CARD.architecture, CARD.arguments, seed=2).eval()
    with torch.inference_mode():
        features = backbone(torch.stack([to_tensor(texture(seed), given) for seed in range(12)]))
        bank = patchcore.fit_memory_bank(patchcore.patch_vectors(features[:6]), size=200, seed=0)
        held_out = [patchcore.image_distance(patchcore.distance_map(one, bank).numpy()) for one in features[6:]]
    card = CARD.model_copy(update={"preprocessing": given})
    path.write_bytes(patchcore.encode_detector(backbone, bank, card=card, threshold=1.2 * max(held_out)))
    return str(path)


def test_anomaly__a_spot_is_found_where_it_is(detector: str) -> None:
    normal, defect = opened("anomaly", detector).run([view(texture(100)), view(spotted(101))])
    assert (normal.fields["is_anomalous"], defect.fields["is_anomalous"]) == (False, True)
    assert normal.score is not None
    assert defect.score is not None
    assert normal.score < 1 < defect.score
    assert normal.fields["regions"] == []
    region = defect.fields["regions"][0]
    left, top, right, bottom = region["box"]
    assert left <= 84 and right >= 100 and top <= 28 and bottom >= 44  # noqa: PT018
    assert left >= 56 and right <= 128 and top >= 8 and bottom <= 64  # noqa: PT018
    assert region["score"] >= defect.score
    assert 0 < region["area_px"] <= (right - left) * (bottom - top)


def test_anomaly__heat_map_peaks_in_the_spot(detector: str) -> None:
    (defect,) = opened("anomaly", detector).run([view(spotted(102))])
    heat = defect.fields["heat_map"]
    values = np.frombuffer(heat["values"], np.uint8).reshape(heat["height"], heat["width"])
    assert (heat["height"], heat["width"]) == (16, 16)
    row, column = np.unravel_index(values.argmax(), values.shape)
    assert 24 <= (row + 0.5) * 96 / 16 <= 48
    assert 80 <= (column + 0.5) * 128 / 16 <= 104
    assert values.max() * heat["scale"] >= defect.score


def test_anomaly__boxes_are_in_pixels_of_the_full_image(detector: str) -> None:
    operator = opened("anomaly", detector)
    (small,) = operator.run([view(spotted(103))])
    (scaled,) = operator.run([view(spotted(103), width_px=256, height_px=192)])
    assert scaled.fields["regions"][0]["box"] == [2 * side for side in small.fields["regions"][0]["box"]]


def test_anomaly__padding_is_left_out(tmp_path: Path) -> None:
    padded = fitted(tmp_path / "padded.safetensors", INPUT.model_copy(update={"fit": "pad"}))
    (prediction,) = opened("anomaly", padded).run([view(texture(104))])
    heat = prediction.fields["heat_map"]
    assert (heat["height"], heat["width"]) == (12, 16)


@pytest.mark.parametrize("other", [{"fit": "pad"}, {"height_px": 96, "width_px": 96}, {"mean": (0.5, 0.5, 0.5)}])
def test_anomaly__another_input_than_the_fitted_one_is_refused(detector: str, other: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"its input was 64 x 64 px, fit: stretch, .* p-values") as raised:
        opened("anomaly", detector, input=INPUT.model_copy(update=other).model_dump(mode="json"))
    assert "fit it again" in (raised.value.hint or "")
    same = opened("anomaly", detector, input=INPUT.model_dump(mode="json"))
    assert same.preproc == opened("anomaly", detector).preproc


def test_anomaly__what_was_fitted_runs_in_float32(detector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    with pytest.raises(ModelError, match="of distances in float32"):
        opened("anomaly", detector, precision="bf16")
    (plain,), (chosen,) = (opened("anomaly", detector, **asked).run([view(spotted(7))]) for asked in PRECISIONS)
    assert chosen == plain
    assert opened("anomaly", detector, precision="auto").preproc == opened("anomaly", detector).preproc


def test_anomaly__crop_is_refused(detector: str) -> None:
    with pytest.raises(ModelError, match="must see the whole image"):
        opened("anomaly", detector, input=INPUT.model_copy(update={"fit": "crop"}).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("extra", "bank", "message"),
    [
        ({"threshold": 1.0}, None, "holds no tensor memory_bank"),
        ({}, torch.zeros(3, 24), "names no extra.threshold"),
        ({"threshold": 0}, torch.zeros(3, 24), "names no extra.threshold"),
        ({"threshold": 1.0}, torch.zeros(3, 7), "its bank has 7 features, its backbone gives 24"),
    ],
)
def test_anomaly__incomplete_files(
    tmp_path: Path, extra: dict[str, float], bank: torch.Tensor | None, message: str
) -> None:
    backbone = patchcore.build_backbone(CARD.architecture, CARD.arguments)
    tensors = {patchcore.BACKBONE_PREFIX + name: one for name, one in backbone.state_dict().items()}
    if bank is not None:
        tensors[patchcore.MEMORY_BANK] = bank
    path = write_model(tmp_path / "a.safetensors", tensors, CARD.model_copy(update={"extra": extra}))
    with pytest.raises(ModelError, match=message):
        opened("anomaly", path)


def test_find_regions__touching_cells_are_one() -> None:
    ratios = np.zeros((4, 4), np.float32)
    ratios[0, 0], ratios[1, 1], ratios[3, 3], ratios[3, 0] = 2.0, 3.0, 5.0, 1.0
    first, second = find_regions(ratios, width_px=40, height_px=80)
    assert first == {"box": [30.0, 60.0, 40.0, 80.0], "score": 5.0, "area_px": 200}
    assert second == {"box": [0.0, 0.0, 20.0, 40.0], "score": 3.0, "area_px": 400}
