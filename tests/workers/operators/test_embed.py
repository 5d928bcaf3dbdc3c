"""Are vectors of the promised length, size and closeness?"""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError
from skimage import data

from tests.workers.operators.making import flat, opened, view
from winnow_jobs.resolved import ResolvedTask
from winnow_storage.errors import ModelError
from winnow_workers.models import fingerprint
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operators.embed import EmbedParams


def photographs() -> list[np.ndarray]:
    return [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.hubble_deep_field()]


def altered(pixels: np.ndarray) -> list[np.ndarray]:
    """What near-duplicates are: scaled, compressed, slightly brighter, slightly cropped."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    margin_y, margin_x = pixels.shape[0] // 40, pixels.shape[1] // 40
    return [
        np.array(image.resize((image.width // 3, image.height // 3), Image.Resampling.LANCZOS)),
        np.array(Image.open(buffer)),
        np.clip(pixels.astype(int) * 1.05, 0, 255).astype(np.uint8),
        pixels[margin_y:-margin_y, margin_x:-margin_x],
    ]


def test_fingerprint__near_duplicates_are_closer_than_all_others() -> None:
    originals = photographs()
    vectors = np.stack([fingerprint.fingerprint(one) for one in originals])
    others = max((vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)])
    for original, vector in zip(originals, vectors, strict=True):
        for copy in altered(original):
            assert fingerprint.fingerprint(copy) @ vector > max(0.95, others + 0.02)


def test_fingerprint__length_one_even_of_nothing() -> None:
    for pixels in (flat((0, 0, 0)), flat((255, 255, 255)), flat((9, 9, 9), width=1, height=1), photographs()[0]):
        vector = fingerprint.fingerprint(pixels)
        assert vector.shape == (fingerprint.LENGTH,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("dtype", "arrow", "tolerance"), [("float16", pa.float16(), 1e-3), ("float32", pa.float32(), 1e-6)])  # fmt: skip  # noqa: E501
def test_embed__dtype_and_length(dtype: str, arrow: pa.DataType, tolerance: float) -> None:
    operator = opened("embed", "builtin/small_embedder", weights={"random": 3}, dtype=dtype)
    (prediction,) = operator.run([view(photographs()[0])])
    (field,) = operator.fields()
    assert field.type == pa.list_(arrow, 64)
    vector = prediction.fields["vector"]
    assert vector.dtype == dtype
    assert np.linalg.norm(vector.astype(float)) == pytest.approx(1.0, abs=tolerance)
    assert prediction.score is None


def test_embed__not_normalised() -> None:
    kind = {"model": "builtin/small_embedder", "weights": {"random": 3}, "dtype": "float32"}
    pixels = photographs()[1]
    plain = opened("embed", normalize=False, **kind).run([view(pixels)])[0].fields["vector"]
    unit = opened("embed", **kind).run([view(pixels)])[0].fields["vector"]
    assert plain / np.linalg.norm(plain) == pytest.approx(unit, abs=1e-6)
    assert np.linalg.norm(plain) != pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("model", ["torchvision/lraspp_mobilenet_v3_large", "builtin/small_unet"])
def test_embed__a_segmenter_has_no_vector_of_an_image(model: str) -> None:
    with pytest.raises(ModelError, match="gives no features of a whole image"):
        opened("embed", model, weights={"random": 1})


@pytest.mark.parametrize(("said", "meant"), [("l2", True), ("none", False), (True, True)])
def test_embed__normalisation_by_name(said: object, meant: bool) -> None:
    assert EmbedParams.model_validate({"normalize": said}).normalize is meant


def test_embed__parameters_decide_the_digest_of_a_task_only_where_they_are_given() -> None:
    def digest(**params: object) -> str:
        dumped = EmbedParams.model_validate(params).model_dump(mode="json")
        model = resolve_model("timm/test_vit", {"random": 1})
        return ResolvedTask(name="v", operator="embed", revision=1, params=dumped, model=model).digest

    # what a plan of before these keys held
    assert EmbedParams().model_dump(mode="json") == {"dtype": "float16", "normalize": True, "input": None}
    assert digest(pooling="model", gem_power=3.0, normalize="l2") == digest()
    others = [{"pooling": "cls"}, {"pooling": "gem"}, {"pooling": "gem", "gem_power": 4.0}, {"normalize": "none"}]
    assert len({digest(**one) for one in [{}, *others, {"dtype": "float32"}]}) == 6


def test_embed__keys_that_mean_nothing() -> None:
    with pytest.raises(ValidationError, match="gem_power is for pooling: gem only"):
        EmbedParams(gem_power=2.0)
    with pytest.raises(ModelError, match="has no network, so pooling: cls means nothing"):
        opened("embed", "builtin/fingerprint", pooling="cls")


def test_embed__what_float16_cannot_hold_is_an_error() -> None:
    operator = opened("embed", "builtin/small_embedder", weights={"random": 3}, normalize="none")
    with pytest.raises(ArithmeticError, match="do not fit float16; write dtype: float32"):
        operator._finish(np.array([70_000.0, 1.0], np.float32))
