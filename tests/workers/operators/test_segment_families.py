"""Does segment say what each library says of each image alone, whole and in tiles?"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from torch.nn import functional

from tests.workers.operators import sharp
from tests.workers.operators.making import opened, view, write_model
from tests.workers.operators.segformers import write_segformer
from winnow_storage.errors import ModelError
from winnow_workers.models.model_file import ModelCard
from winnow_workers.operator import View

# pycocotools, the oracle here, has not followed numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
INPUT = {"height_px": 64, "width_px": 64}
PICTURES = sharp.pictures()
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def decoded(mask: dict[str, Any]) -> np.ndarray:
    return coco.decode({**mask["rle"], "counts": mask["rle"]["counts"].encode()}).astype(bool)


def prepared(picture: View) -> torch.Tensor:
    image = torch.from_numpy(picture.pixels).permute(2, 0, 1)[None]
    scaled = functional.interpolate(image, (64, 64), mode="bilinear", antialias=True).float() / 255
    return (scaled - MEAN.view(1, 3, 1, 1)) / STD.view(1, 3, 1, 1)


def settled(module: torch.nn.Module) -> torch.nn.Module:
    """In evaluation mode, with batch norms as after training on noise: random ones let activations grow."""
    torch.manual_seed(7)
    for _ in range(3):
        with torch.no_grad():
            module.train()(torch.randn(4, 3, 64, 64))
    return module.eval()


def library_segmenter(name: str) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        if name.startswith("torchvision/"):
            from torchvision import models

            short = name.removeprefix("torchvision/")
            return settled(models.get_model(short, weights=None, weights_backbone=None, num_classes=4))
        import segmentation_models_pytorch as smp

        _, arch, encoder = name.split("/")
        return settled(smp.create_model(arch, encoder, encoder_weights=None, classes=4))


SEGMENTERS = [
    "torchvision/deeplabv3_mobilenet_v3_large",
    "torchvision/lraspp_mobilenet_v3_large",
    "torchvision/fcn_resnet50",
    "smp/unet/resnet18",
    "smp/deeplabv3plus/resnet18",
    "smp/segformer/tu-test_resnet",
]


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segment__semantic_as_the_library_on_each_image_alone(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    library = library_segmenter(name)
    card = ModelCard(architecture=name, labels=("background", "a", "b", "c"))
    file = write_model(tmp_path / "m.safetensors", dict(library.state_dict()), card)
    predictions = opened("segment", file, input=INPUT).run(sharp.pictures())
    for picture, prediction in zip(sharp.pictures(), predictions, strict=True):
        with torch.no_grad():
            said = library(prepared(picture))
        check_semantic(prediction, said["out"] if isinstance(said, dict) else said, picture)


def check_semantic(prediction: Any, logits: torch.Tensor, picture: View) -> None:
    probabilities = logits.softmax(dim=1)[0]
    classes = probabilities.argmax(dim=0)
    size = (picture.height_px, picture.width_px)
    full = functional.interpolate(classes[None, None].float(), size, mode="nearest-exact")[0, 0].long().numpy()
    for index, label in enumerate(("background", "a", "b", "c")):
        ours = [one for one in prediction.fields["masks"] if one["label"] == label]
        if index == 0 or not (full == index).any():
            assert not ours
            continue
        assert (decoded(ours[0]) != (full == index)).mean() < 0.002
        assert ours[0]["area_px"] == decoded(ours[0]).sum()
        top = probabilities.max(dim=0).values[classes == index]
        assert ours[0]["score"] == pytest.approx(float(top.mean()), abs=1e-4)
    values = probabilities.max(dim=0).values.double()
    weights = ((1 - values) / 0.1).exp()
    assert prediction.score == pytest.approx(float((values * weights).sum() / weights.sum()), abs=1e-4)


def test_segment__segformer_of_transformers_as_the_library_on_each_image_alone(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model, processor = write_segformer(tmp_path)
    predictions = opened("segment", f"transformers/{tmp_path}").run(sharp.pictures())
    for picture, prediction in zip(sharp.pictures(), predictions, strict=True):
        inputs = processor(images=[torch.from_numpy(picture.pixels).permute(2, 0, 1)], return_tensors="pt")
        with torch.no_grad():
            said = model(**inputs)
        logits = functional.interpolate(said.logits, (64, 64), mode="bilinear", align_corners=False)
        (labels,) = processor.post_process_semantic_segmentation(said, target_sizes=[(64, 64)])
        assert (labels != logits[0].argmax(dim=0)).float().mean() < 0.001
        check_semantic(prediction, logits, picture)


def test_segment__a_label_set_without_a_background_loses_no_label(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    write_segformer(tmp_path, {0: "wall", 1: "a", 2: "b", 3: "c"})
    folder = f"transformers/{tmp_path}"
    areas = [sum(one["area_px"] for one in said.fields["masks"]) for said in opened("segment", folder).run(PICTURES)]
    assert areas == [one.width_px * one.height_px for one in PICTURES]
    with_one = opened("segment", folder, background=True).run(PICTURES)
    found = {one["label"] for said in with_one for one in said.fields["masks"]}
    assert "wall" not in found
    assert found
    everything = opened("segment", folder).run(PICTURES)
    assert "wall" in {one["label"] for said in everything for one in said.fields["masks"]}
    with pytest.raises(ModelError, match="every pixel has a label, and the model's input says fit: crop"):
        opened("segment", folder, input={**INPUT, "fit": "crop"})


def test_segment__a_folder_whose_input_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    write_segformer(tmp_path)
    place = tmp_path / "preprocessor_config.json"
    said = json.loads(place.read_text())
    place.write_text(json.dumps({**said, "do_flip_channel_order": True}))
    with pytest.raises(ModelError, match=r"preprocessor_config\.json is missing, or says what cannot be done here"):
        opened("segment", f"transformers/{tmp_path}")
    place.write_text(json.dumps({**said, "size": 96}))  # as older processors wrote it
    assert opened("segment", f"transformers/{tmp_path}").needed_side_px == 96


def test_segment__mask_rcnn_as_the_library_on_each_image_alone(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    name = "maskrcnn_resnet50_fpn"
    library: Any = sharp.torchvision_detector(name)
    file = sharp.model_file(tmp_path, name, library)
    library.roi_heads.score_thresh, library.roi_heads.detections_per_img = 0.1, 20
    predictions = opened("segment", file, floor=0.1, max_masks=20).run(sharp.pictures()[:2])
    labels = ["__background__", "a", "b", "c"]
    for picture, prediction in zip(sharp.pictures()[:2], predictions, strict=True):
        with torch.no_grad():
            (said,) = library([sharp.as_input(picture.pixels)])
        masks = prediction.fields["masks"]
        assert len(masks) == len(said["scores"]) > 1
        for ours, label, score, mask in zip(masks, said["labels"], said["scores"], said["masks"], strict=True):
            assert ours["label"] == labels[int(label)]
            assert ours["score"] == pytest.approx(float(score), abs=1e-4)
            assert (decoded(ours) != (mask[0] > 0.5).numpy()).mean() < 0.001
        for area in prediction.fields["areas"]:
            own = [decoded(one) for one in masks if one["label"] == area["label"] and one["is_output"]]
            assert area["area_px"] == np.any(own, axis=0).sum()


def test_segment__instances_that_are_cut_are_counted(tmp_path: Path) -> None:
    params = {"labels": ["a", "b"], "min_side_px": 64, "max_side_px": 96, "weights": {"random": 1}}
    many = opened("segment", "torchvision/maskrcnn_resnet50_fpn", max_masks=30, **params).run(sharp.pictures()[:1])
    few = opened("segment", "torchvision/maskrcnn_resnet50_fpn", max_masks=2, **params).run(sharp.pictures()[:1])
    assert few[0].fields["masks"] == many[0].fields["masks"][:2]
    assert few[0].fields["cut"] == many[0].fields["cut"] + len(many[0].fields["masks"]) - 2


class ByColour(torch.nn.Module):
    """Logits that are the pixel's own colours: what it says of a pixel does not depend on where the tile is."""

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        return images_nchw * 4


def test_segment__tiles_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow_workers.models.nets.NETS", {"small_unet": lambda *_: ByColour()})
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (150, 210, 3), dtype=np.uint8)
    plain = {"mean": [0, 0, 0], "std": [1, 1, 1]}
    labels = ["red", "green", "blue"]
    operator = opened(
        "segment", "builtin/small_unet", weights={"random": 1}, labels=labels, input=INPUT | plain,
        tiles={"side_px": 64, "overlap": 0.3},
    )  # fmt: skip
    (prediction,) = operator.run([view(pixels)])
    probabilities = torch.from_numpy(pixels.astype(np.float32) / 255 * 4).softmax(dim=2).numpy()
    for index, label in ((1, "green"), (2, "blue")):
        (ours,) = [one for one in prediction.fields["masks"] if one["label"] == label]
        truth = probabilities.argmax(axis=2) == index
        assert (decoded(ours) == truth).all()
        assert ours["score"] == pytest.approx(probabilities.max(axis=2)[truth].mean(), abs=1e-4)
        assert ours["box"] == [0, 0, 210, 150]
    values = probabilities.max(axis=2).astype(np.float64)
    weights = np.exp((1 - values) / 0.1)
    assert prediction.score == pytest.approx((values * weights).sum() / weights.sum(), abs=1e-4)
    classes = probabilities.argmax(axis=2)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=2) / np.log(3)
    edge = np.zeros(classes.shape, bool)
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        moved = np.roll(classes, (dy, dx), axis=(0, 1)) != classes
        if dy:
            moved[0 if dy > 0 else -1] = False
        if dx:
            moved[:, 0 if dx > 0 else -1] = False
        edge |= moved
    assert prediction.fields["boundary_entropy"] == pytest.approx(entropy[edge].mean(), abs=1e-3)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"input": INPUT | {"fit": "crop"}, "tiles": {"side_px": 64}}, "tiles must be seen whole"),
        ({"min_side_px": 64}, "are for instance models"),
    ],
)
def test_segment__keys_that_do_not_fit(params: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        opened("segment", "builtin/small_unet", weights={"random": 1}, **params)


def test_segment__an_input_that_the_network_cannot_take() -> None:
    odd = {"height_px": 50, "width_px": 50}
    with pytest.raises(ModelError, match="cannot take an input of 50 x 50 px"):
        opened("segment", "smp/fpn/resnet18", weights={"random": 1}, input=odd)
    with pytest.raises(ModelError, match="smp has no encoder 'resnet1'"):
        opened("segment", "smp/unet/resnet1", weights={"random": 1})
