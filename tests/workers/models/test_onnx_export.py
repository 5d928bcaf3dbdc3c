"""Does a network of each larger family answer as an ONNX file as it does in torch? Minutes for all of them."""

import pytest
import torch
from torch import nn

from winnow_storage.ids import digest_bytes
from winnow_workers.models.architectures import default_preprocessing
from winnow_workers.models.build import build_network
from winnow_workers.models.load import keep
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.onnx_export import checked, export
from winnow_workers.models.onnx_file import check_onnx
from winnow_workers.models.sample_images import sample_images
from winnow_workers.models.variants import OpenForm, Task, file_model, open_form

LABELS = ("a", "b", "c", "d", "e")
IMAGES = 8
CASES: dict[str, tuple[Task, int | None]] = {
    "torchvision/resnet50": ("classify", None),
    "torchvision/densenet121": ("classify", None),
    "torchvision/mobilenet_v2": ("classify", None),
    "torchvision/efficientnet_b0": ("classify", None),
    "torchvision/convnext_tiny": ("classify", None),
    "torchvision/vit_b_16": ("classify", None),
    "torchvision/deeplabv3_mobilenet_v3_large": ("segment", 256),
    "smp/unet/resnet34": ("segment", 256),
    "smp/segformer/mit_b0": ("segment", 256),
    "timm/vit_small_patch16_224": ("embed", None),
}


def lively(network: nn.Module) -> None:
    """Weights that keep what they are given at its size, in all layers: fresh ones answer with nothing, or nearly."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                part.weight.normal_(0, (2.0 / part.weight[0].numel()) ** 0.5, generator=generator)


def form_of(architecture: str, kind: Task, side_px: int | None) -> OpenForm:
    labels = () if kind == "embed" else LABELS
    network = build_network(architecture, {}, n_labels=len(labels) or None, seed=3)
    lively(network)
    said = default_preprocessing(architecture)
    if side_px is not None:
        said = said.model_copy(update={"height_px": side_px, "width_px": side_px})
    data = encode_model(
        network.state_dict(), ModelCard(architecture=architecture, labels=labels, preprocessing=said, kind=kind)
    )
    sha256 = digest_bytes(data)
    keep(data, sha256)
    return open_form(file_model(f"file:///{sha256}.safetensors", sha256, name=architecture), kind)


@pytest.mark.long
@pytest.mark.parametrize("architecture", list(CASES))
def test_export__of_a_larger_network(architecture: str) -> None:
    form = form_of(architecture, *CASES[architecture])
    data, found = checked(
        form, export(form, where=architecture, parent="net@1"), sample_images(IMAGES), where=architecture
    )
    assert found.largest_output > 0.01
    assert found.max_abs_difference <= 1e-4 * found.largest_output
    assert found.agreement >= 0.999
    card = check_onnx(data, where=architecture)
    assert card is not None
    assert card.metrics["parity_max_abs_difference"] == found.max_abs_difference
    print(f"{architecture}: {form.kind}, agreement {found.agreement:.6f}, {found.max_abs_difference:.2g}, "
          f"largest {found.largest_output:.3g}")  # fmt: skip
