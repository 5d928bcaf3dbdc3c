"""Is what goes into a network whose weights do not say their input what the library publishes with them?"""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torchvision import models
from torchvision.transforms import v2

from winnow_storage.errors import ModelError
from winnow_workers.models import libraries, published
from winnow_workers.models.architectures import default_preprocessing
from winnow_workers.models.model_file import ModelCard, Preprocessing, encode_model
from winnow_workers.models.preprocess import needed_side_px, preproc_id, to_tensor
from winnow_workers.models.published import published_input, usual_input, with_published_input
from winnow_workers.models.reference import ResolvedModel, Weights
from winnow_workers.models.resolve import resolve_model

CHANGING = {"googlenet": models.GoogLeNet, "inception_v3": models.Inception3}  # their input themselves
TIMM = ("resnet50", "vit_base_patch16_224", "vit_base_patch16_224.dino", "dla34", "coat_lite_medium_384", "test_resnet")


def _alike() -> dict[str, list[str]]:
    """torchvision's classifiers by the first of those that are published with the same transforms."""
    by_transforms: dict[str, list[str]] = {}
    for name in models.list_models(module=models):
        said = repr(models.get_model_weights(name).DEFAULT.transforms())
        by_transforms.setdefault(name if name in CHANGING else said, []).append(name)
    return {names[0]: names for names in by_transforms.values()}


CLASSIFIERS = _alike()


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def photographs() -> list[np.ndarray]:
    """A wide and a tall one; the larger networks scale them up."""
    astronaut = data.astronaut()
    return [astronaut[40:383].copy(), astronaut[:, 100:395].copy()]


def said_of(name: str) -> Preprocessing:
    found = published_input(name)
    assert found is not None
    return found


def same_as(theirs: torch.Tensor, ours: torch.Tensor, given: Preprocessing) -> None:
    """As Pillow scales, whose arithmetic torch's kernel for bytes follows but for its weights' last bits."""
    assert theirs.shape == ours.shape
    levels = (theirs - ours).abs() * torch.tensor(given.std).view(-1, 1, 1) * 255
    assert levels.mean() < 0.3  # one pixel aside, or another filter, is several; 0.18 is of 4 pixels to 3, bicubic
    assert (levels > 2.01).float().mean() < 1e-3


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_published_input__is_torchvisions_own(name: str) -> None:
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    given = said_of(f"torchvision/{name}")
    assert all(said_of(f"torchvision/{other}") == given for other in CLASSIFIERS[name])
    assert needed_side_px(given) == transforms.resize_size[0]
    of_bytes = v2.Compose(
        [
            v2.Resize(transforms.resize_size, transforms.interpolation, antialias=transforms.antialias),
            v2.CenterCrop(transforms.crop_size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(transforms.mean, transforms.std),
        ]
    )
    for pixels in photographs():
        ours = to_tensor(pixels, given)
        same_as(as_the_network_sees(name, transforms(Image.fromarray(pixels))), ours, given)
        exact = as_the_network_sees(name, of_bytes(torch.from_numpy(pixels).permute(2, 0, 1)))
        torch.testing.assert_close(ours, exact, atol=1e-6, rtol=0)


def as_the_network_sees(name: str, image: torch.Tensor) -> torch.Tensor:
    """GoogLeNet and Inception of public weights go over to another mean and std themselves; ours do not."""
    if name not in CHANGING:
        return image
    changed: torch.Tensor = CHANGING[name]._transform_input(SimpleNamespace(transform_input=True), image[None])[0]
    return changed


@pytest.mark.parametrize("name", TIMM)
def test_published_input__is_timms_own(name: str) -> None:
    timm = libraries.timm()
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transforms = create_transform(**config)
    given = said_of(f"timm/{name}")
    for pixels in photographs():
        same_as(transforms(Image.fromarray(pixels)), to_tensor(pixels, given), given)


def test_published_input__what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ModelError, match=r"volo_d4_448: the input that timm publishes .* crop_pct 1\.15") as raised:
        published_input("timm/volo_d4_448")
    assert (raised.value.hint or "").startswith("write what the weights expect")


@pytest.mark.parametrize(
    "name", ["torchvision/deeplabv3_resnet50", "torchvision/ssd300_vgg16", "smp/unet/resnet18", "builtin/digit_cnn"]
)
def test_published_input__of_others_than_classifiers_there_is_none(name: str) -> None:
    assert published_input(name) is None
    assert usual_input(name, {}) == default_preprocessing(name)


def test_published_input__a_network_that_changes_its_input_itself_is_given_imagenets() -> None:
    halves = said_of("torchvision/inception_v3")
    own = published_input("torchvision/inception_v3", {"transform_input": True})
    assert halves.mean == (0.5, 0.5, 0.5)
    assert own == halves.model_copy(update={"mean": Preprocessing(height_px=1, width_px=1).mean, "std": own.std})
    assert own.std == (0.229, 0.224, 0.225)


def file_model(path: Path, card: ModelCard | None, architecture: str | None = None) -> ResolvedModel:
    """A weights file; without a card it is a plain one, whose architecture the spec names."""
    from safetensors.torch import save

    weights = {"w": torch.ones(3)}
    path.write_bytes(save(weights) if card is None else encode_model(weights, card))
    return resolve_model(architecture or str(path), {"uri": str(path)} if architecture else None)


PRETRAINED = ResolvedModel(
    name="torchvision/resnet50",
    architecture="torchvision/resnet50",
    weights=Weights(kind="pretrained", uri="https://nowhere.invalid/r.pth", sha256="0" * 64),
    digest="0" * 64,
)


def test_with_published_input__of_weights_that_do_not_say_it(tmp_path: Path) -> None:
    b4 = ModelCard(architecture="torchvision/efficientnet_b4", labels=("a", "b"))
    silent = file_model(tmp_path / "silent.safetensors", b4)
    plain = file_model(tmp_path / "plain.safetensors", None, "torchvision/efficientnet_b4")
    published = said_of("torchvision/efficientnet_b4").model_dump(mode="json")
    assert (published["height_px"], published["resize_px"], published["interpolation"]) == (380, 384, "bicubic")
    for model in (silent, plain):
        assert with_published_input({"input": None, "top_k": 3}, "classify", model) == {"input": published, "top_k": 3}
    assert with_published_input({}, "embed", PRETRAINED)["input"]["resize_px"] == 232


def test_with_published_input__nothing_else_changes(tmp_path: Path) -> None:
    own = Preprocessing(height_px=64, width_px=64)
    card = ModelCard(architecture="torchvision/resnet18", preprocessing=own)
    for model in (
        file_model(tmp_path / "says.safetensors", card),
        file_model(tmp_path / "own.safetensors", ModelCard(architecture="builtin/digit_cnn")),
        resolve_model("torchvision/resnet18", {"random": 1}),
    ):
        assert with_published_input({"input": None}, "classify", model) == {"input": None}
    asked = {"input": own.model_dump(mode="json")}
    assert with_published_input(asked, "classify", PRETRAINED) == asked
    assert with_published_input({"input": None}, "detect", PRETRAINED) == {"input": None}


SCRIPT = """
import sys
from pathlib import Path
from winnow_workers.models.published import with_published_input
from winnow_workers.models.resolve import resolve_model
model = resolve_model("torchvision/resnet18", {"uri": sys.argv[1]})
assert with_published_input({"input": None}, "classify", model)["input"]["resize_px"] == 256
assert "torch" not in sys.modules
"""


def test_with_published_input__remembered_it_needs_no_torch(tmp_path: Path) -> None:
    said_of("torchvision/resnet18")
    libraries.names("torchvision")
    path = tmp_path / "plain.safetensors"
    file_model(path, None, "torchvision/resnet18")
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True)


def test_peek_card__a_long_header_is_read_whole(tmp_path: Path) -> None:
    labels = tuple(f"a label of many words, number {number}" for number in range(5000))
    card = ModelCard(architecture="torchvision/resnet18", labels=labels)
    model = file_model(tmp_path / "long.safetensors", card)
    assert published.peek_card(model.weights) == card


def test_preprocessing__what_was_there_before_keeps_its_id() -> None:
    before = Preprocessing(height_px=224, width_px=224, fit="crop")
    assert set(before.model_dump(mode="json")) == {"height_px", "width_px", "channels", "fit", "mean", "std"}
    assert preproc_id(before) != preproc_id(before.model_copy(update={"resize_px": 256}))
