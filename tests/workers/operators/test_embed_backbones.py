"""Are vectors those of the library called directly, whatever the backbone and the pooling?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from skimage import data

from tests.workers.operators.making import opened, view
from winnow_storage.errors import ModelError
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.preprocess import to_tensor
from winnow_workers.models.transformers_model import quiet_import
from winnow_workers.operator import Operator, TaskConfig
from winnow_workers.preflight import check_task

with quiet_import():
    import transformers

SEED = 7
SIDE_PX = 64
INPUT = {"height_px": SIDE_PX, "width_px": SIDE_PX}
IMAGES = [data.astronaut(), data.chelsea(), data.coffee()[:90, :200]]
Network = Callable[[torch.Tensor], torch.Tensor]


def images() -> torch.Tensor:
    return torch.stack([to_tensor(pixels, Preprocessing(**INPUT)) for pixels in IMAGES])


def vectors(operator: Operator[Any]) -> np.ndarray:
    """In one batch, of images of different shapes."""
    return np.stack([one.fields["vector"] for one in operator.run([view(pixels) for pixels in IMAGES])])


def seeded(build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return build().eval()


def one_by_one(network: Network) -> np.ndarray:
    """What the library says of each image alone, of length one."""
    with torch.inference_mode():
        found = torch.cat([network(image[None]).flatten(1) for image in images()]).double().numpy()
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def gem(maps: torch.Tensor, power: float = 3.0) -> torch.Tensor:
    return maps.clamp(min=1e-6).pow(power).mean(dim=(2, 3)).pow(1 / power)


def torchvision_direct(name: str, pooling: str) -> Network:
    network = seeded(lambda: torchvision.models.get_model(name, weights=None))
    if name == "mobilenet_v2":
        return lambda batch: gem(network.features(batch))
    if pooling == "model":  # the library's own pooling, without the head
        network.fc = torch.nn.Identity()
        return network
    whole = torch.nn.Sequential(*list(network.children())[:-2])
    return lambda batch: gem(whole(batch))


@pytest.mark.parametrize(("name", "pooling"), [("resnet18", "model"), ("resnet18", "gem"), ("mobilenet_v2", "gem")])
def test_torchvision__equals_the_library(name: str, pooling: str) -> None:
    operator = opened(
        "embed", f"torchvision/{name}", weights={"random": SEED}, pooling=pooling, dtype="float32", input=INPUT
    )
    assert vectors(operator) == pytest.approx(one_by_one(torchvision_direct(name, pooling)), abs=1e-5)


def timm_network(name: str) -> Any:
    # with its head, which takes its share of the random numbers
    network = seeded(lambda: timm.create_model(name, pretrained=False))
    network.reset_classifier(0)
    return network


def timm_direct(name: str, pooling: str) -> Network:
    network = timm_network(name)

    def direct(batch: torch.Tensor) -> torch.Tensor:
        if pooling in ("model", "map"):
            return network(batch)
        features = network.forward_features(batch)
        if features.ndim == 4:
            return {"mean": features.mean(dim=(2, 3)), "gem": gem(features)}[pooling]
        patches = features[:, network.num_prefix_tokens :]
        return {
            "cls": lambda: features[:, 0],
            "mean": lambda: network.fc_norm(patches.mean(dim=1)),
            "mean+cls": lambda: torch.cat([features[:, 0], patches.mean(dim=1)], dim=1),
            "gem": lambda: gem(patches.transpose(1, 2)[..., None]),
        }[pooling]()

    return direct


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("test_vit", "model"), ("test_vit", "cls"), ("test_vit", "mean"), ("test_vit", "mean+cls"), ("test_vit", "gem"),
        ("test_vit2", "mean"), ("test_resnet", "model"), ("test_resnet", "mean"), ("test_resnet", "gem"),
    ],
)  # fmt: skip
def test_timm__equals_the_library(name: str, pooling: str) -> None:
    operator = opened("embed", f"timm/{name}", weights={"random": SEED}, pooling=pooling, dtype="float32", input=INPUT)
    assert vectors(operator) == pytest.approx(one_by_one(timm_direct(name, pooling)), abs=1e-5)


def test_timm__an_attention_pooler_is_the_model_s_own() -> None:
    network = timm_network("test_vit3")
    operator = opened("embed", "timm/test_vit3", weights={"random": SEED}, pooling="map", dtype="float32")
    batch = torch.stack([to_tensor(pixels, operator._input) for pixels in IMAGES])
    with torch.inference_mode():
        direct = network(batch).double().numpy()
    assert vectors(operator) == pytest.approx(direct / np.linalg.norm(direct, axis=1, keepdims=True), abs=1e-5)


TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE_PX, "patch_size": 16}
TOWER = {**TINY, "intermediate_size": 16}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 99}
FAMILIES: dict[str, Callable[[], Any]] = {
    "vit": lambda: transformers.ViTModel(transformers.ViTConfig(**TOWER)),
    "vit-classifier": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**TOWER)),
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**TINY)),
    "dinov2-registers": lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(num_register_tokens=3, **TINY)
    ),
    "clip": lambda: transformers.CLIPModel(
        transformers.CLIPConfig(text_config=TEXT, vision_config=TOWER, projection_dim=8)
    ),
    "clip-tower": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**TOWER)),
    "clip-projected": lambda: transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(projection_dim=8, **TOWER)
    ),
    "siglip": lambda: transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=TOWER)),
    "siglip-tower": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**TOWER)),
    "resnet": lambda: transformers.ResNetModel(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    ),
    "swin": lambda: transformers.SwinModel(
        transformers.SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], image_size=SIDE_PX, window_size=4)
    ),
}
# what the library's own outputs are for each (family, pooling)
DIRECT: dict[tuple[str, str], Callable[[Any, torch.Tensor], torch.Tensor]] = {
    ("vit", "model"): lambda net, x: net(pixel_values=x).pooler_output,
    ("vit", "mean+cls"): lambda net, x: torch.cat(
        [(s := net(pixel_values=x).last_hidden_state)[:, 0], s[:, 1:].mean(dim=1)], dim=1
    ),
    ("vit-classifier", "model"): lambda net, x: net.vit(pixel_values=x).last_hidden_state[:, 0],
    ("dinov2", "model"): lambda net, x: net(pixel_values=x).pooler_output,
    ("dinov2", "gem"): lambda net, x: gem(net(pixel_values=x).last_hidden_state[:, 1:].transpose(1, 2)[..., None]),
    ("dinov2-registers", "mean"): lambda net, x: net(pixel_values=x).last_hidden_state[:, 4:].mean(dim=1),
    ("clip", "model"): lambda net, x: net.get_image_features(pixel_values=x).pooler_output,
    ("clip", "cls"): lambda net, x: net.vision_model(pixel_values=x).pooler_output,
    ("clip-tower", "model"): lambda net, x: net(pixel_values=x).pooler_output,
    ("clip-projected", "model"): lambda net, x: net(pixel_values=x).image_embeds,
    ("siglip", "model"): lambda net, x: net.get_image_features(pixel_values=x).pooler_output,
    ("siglip-tower", "map"): lambda net, x: net(pixel_values=x).pooler_output,
    ("siglip-tower", "mean"): lambda net, x: net(pixel_values=x).last_hidden_state.mean(dim=1),
    ("resnet", "model"): lambda net, x: net(pixel_values=x).pooler_output,
    ("resnet", "gem"): lambda net, x: gem(net(pixel_values=x).last_hidden_state),
    ("swin", "model"): lambda net, x: net(pixel_values=x).pooler_output,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("folders")
    said = {"size": {"height": SIDE_PX, "width": SIDE_PX}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    for family, build in FAMILIES.items():
        seeded(build).save_pretrained(place / family)
        (place / family / "preprocessor_config.json").write_text(json.dumps(said))
    return place


@pytest.mark.parametrize(("family", "pooling"), list(DIRECT))
def test_transformers__equals_the_library(folders: Path, family: str, pooling: str) -> None:
    network = seeded(FAMILIES[family])
    operator = opened("embed", f"transformers/{folders / family}", pooling=pooling, dtype="float32", input=INPUT)
    expected = one_by_one(lambda batch: DIRECT[family, pooling](network, batch))
    assert vectors(operator) == pytest.approx(expected, abs=1e-5)
    assert operator.fields()[0].type.list_size == expected.shape[1]
    check_task(TaskConfig("t", "embed", operator.model, {"pooling": pooling, "input": INPUT}))


@pytest.mark.parametrize(
    ("family", "pooling", "message"),
    [
        ("siglip", "cls", "has no class token, which pooling: cls asks for"),
        ("resnet", "mean+cls", "has no class token"),
        ("dinov2", "map", "has no attention pooler"),
    ],
)
def test_transformers__a_pooling_that_is_not_there(folders: Path, family: str, pooling: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        opened("embed", f"transformers/{folders / family}", pooling=pooling)


def test_transformers__the_folder_says_what_the_input_is(folders: Path) -> None:
    operator = opened("embed", f"transformers/{folders / 'vit'}")
    assert operator.preproc.startswith(f"p1-{SIDE_PX}x{SIDE_PX}-stretch-")
    assert operator.preproc != opened("embed", f"transformers/{folders / 'vit'}", input=INPUT).preproc


def test_transformers__weights_that_are_too_many_are_refused(folders: Path, tmp_path: Path) -> None:
    # a head may be left over; a layer of the body may not
    config = json.loads((folders / "vit" / "config.json").read_text()) | {"num_hidden_layers": 1}
    for file in (folders / "vit").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="the weights do not fit"):
        opened("embed", f"transformers/{tmp_path}")


def test_transformers__no_preprocessing(folders: Path, tmp_path: Path) -> None:
    for file in (folders / "swin").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"its preprocessor_config\.json is missing"):
        opened("embed", f"transformers/{tmp_path}")


def test_an_input_that_the_network_cannot_take(folders: Path) -> None:
    with pytest.raises(ModelError, match="cannot take 48 x 48 px images"):
        opened("embed", f"transformers/{folders / 'vit'}", input={"height_px": 48, "width_px": 48})
