"""Do weights fit their network exactly, and is it said where they do not?"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_model

from winnow_storage.errors import ModelError
from winnow_workers.models.architectures import BUILTIN_NETS, default_preprocessing
from winnow_workers.models.build import build_network, fill, open_network
from winnow_workers.models.check import check_fit, meta_state
from winnow_workers.models.features import pooled_features
from winnow_workers.models.load import LoadedWeights
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.nets import NETS
from winnow_workers.models.resolve import resolve_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_builtin_nets__every_name_has_a_network_and_an_input() -> None:
    assert set(NETS) == set(BUILTIN_NETS)
    for name in NETS:
        shape = BUILTIN_NETS[name]
        images = torch.zeros(2, shape.channels, shape.height_px, shape.width_px)
        assert len(build_network(f"builtin/{name}", {}, n_labels=3).eval()(images)) == 2


def test_build_network__seed_decides_and_global_randomness_stays() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, same, other = (build_network("builtin/digit_cnn", {}, n_labels=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    weights = [next(net.parameters()) for net in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"pretrained": True}, "must not name pretrained"), ({"colour": 1}, "cannot be built with arguments")],
)
@pytest.mark.parametrize("architecture", ["builtin/digit_cnn", "timm/test_resnet", "torchvision/squeezenet1_1"])
def test_build_network__arguments(architecture: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_network(architecture, arguments, n_labels=2)


def test_build_network__segmenter_downloads_no_backbone() -> None:
    net = build_network("torchvision/lraspp_mobilenet_v3_large", {}, n_labels=3).eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, 64, 64))["out"].shape == (1, 3, 64, 64)


def test_open_network__card_decides_labels_and_arguments(tmp_path: Path) -> None:
    net = build_network("builtin/digit_cnn", {"width": 8}, n_labels=3, seed=4)
    card = ModelCard(architecture="builtin/digit_cnn", arguments={"width": 8}, labels=("a", "b", "c"))
    path = tmp_path / "a.safetensors"
    path.write_bytes(encode_model(net.state_dict(), card))
    opened = open_network(resolve_model(str(path)), device="cpu", n_labels=None)
    assert opened.card == card
    assert not opened.module.training
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(opened.module(images), net.eval()(images))


def test_open_network__plain_safetensors_need_an_architecture(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"w": torch.ones(1)}))
    with pytest.raises(ModelError, match="does not say its architecture"):
        open_network(resolve_model(str(path)), device="cpu", n_labels=None)


def test_open_network__spec_and_card_disagree(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(encode_model({"w": torch.ones(1)}, ModelCard(architecture="builtin/digit_cnn")))
    with pytest.raises(ModelError, match="are of builtin/digit_cnn, the spec says builtin/small_unet"):
        open_network(resolve_model("builtin/small_unet", {"uri": str(path)}), device="cpu", n_labels=None)


def test_fill__names_what_does_not_fit() -> None:
    net = build_network("builtin/digit_cnn", {"width": 8}, n_labels=2)
    tensors = dict(net.state_dict())
    tensors["head.1.weight"] = torch.zeros(5, 128)
    tensors["extra"] = torch.zeros(1)
    del tensors["head.1.bias"]
    with pytest.raises(ModelError) as raised:
        fill(net, tensors, where="here")
    assert raised.match("missing: head.1.bias; unexpected: extra; wrong shapes: head.1.weight: .5, 128. instead of")


def test_open_network__tied_weights_may_stand_under_one_name(tmp_path: Path) -> None:
    network = build_network("timm/coat_lite_tiny", {}, n_labels=3, seed=5)
    path = tmp_path / "a.safetensors"
    save_model(network, str(path))  # each tensor once
    held = load_file(path)
    assert len(held) < len(network.state_dict())
    model = resolve_model("timm/coat_lite_tiny", {"uri": str(path)})
    opened = open_network(model, device="cpu", n_labels=3).module.state_dict()
    assert all(torch.equal(opened[name], tensor) for name, tensor in network.state_dict().items())
    check_fit(LoadedWeights(held, None), "timm/coat_lite_tiny", n_labels=3, where="here")
    names = [name for name in held if "cpe" in name and name.endswith("proj.weight")]
    with pytest.raises(ModelError, match=r"missing: cpe1\.proj\.weight, .*serial_blocks1\.0\.cpe"):
        fill(network, {name: one for name, one in held.items() if name not in names}, where="here")


def test_meta_state__of_a_network_that_needs_numbers_to_be_built() -> None:
    assert meta_state("torchvision/regnet_y_400mf", {}, 3)["fc.weight"].shape == (3, 440)


def test_fill__counters_of_batches_may_be_absent() -> None:
    net = build_network("builtin/digit_cnn", {}, n_labels=2)
    fill(net, {name: one for name, one in net.state_dict().items() if "num_batches" not in name}, where="here")


@pytest.mark.parametrize(
    ("architecture", "length"),
    [("torchvision/squeezenet1_1", 512), ("torchvision/mobilenet_v3_small", 1024), ("timm/test_resnet", 96),
     ("builtin/digit_cnn", 512), ("builtin/small_embedder", 64), ("builtin/patch_features", 96)],
)  # fmt: skip
def test_pooled_features__one_vector_per_image(architecture: str, length: int) -> None:
    channels = default_preprocessing(architecture).channels
    net = pooled_features(build_network(architecture, {}, n_labels=None).eval(), architecture)
    with torch.inference_mode():
        assert net(torch.zeros(2, channels, 64, 64)).shape == (2, length)


def test_default_preprocessing__by_library() -> None:
    assert default_preprocessing("torchvision/squeezenet1_1").fit == "crop"
    assert default_preprocessing("torchvision/lraspp_mobilenet_v3_large").fit == "stretch"
    timm = default_preprocessing("timm/test_resnet")
    assert (timm.height_px, timm.mean) == (160, (0.5, 0.5, 0.5))
