"""Does a detector find the same as an ONNX file, at the command and in a task? Others are refused with what to do."""

from pathlib import Path

import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from tests.jobs.test_models_command import run
from tests.workers.models.test_onnx_export import lively
from tests.workers.operators import sharp
from tests.workers.operators.detrs import write_folder
from tests.workers.operators.making import opened, view
from winnow_storage.blobs import open_store
from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_bytes, digest_files
from winnow_storage.registry import Registry
from winnow_storage.uri import parse
from winnow_workers.detectors import onnx_export
from winnow_workers.detectors.onnx_export import exported_detector, exports_boxes
from winnow_workers.models.check import check_file
from winnow_workers.models.folder_card import CARD_FILE, as_model_folder
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.onnx_file import check_onnx
from winnow_workers.models.preprocess import to_canvas
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.sample_images import sample_images
from winnow_workers.models.variants import file_model, folder_model

RCNN = "fasterrcnn_mobilenet_v3_large_320_fpn"
LONG = ("ssd300_vgg16", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn",
        "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_fpn")  # fmt: skip
IMAGES = 8


def sharp_file(folder: Path, name: str) -> ResolvedModel:
    module = sharp.torchvision_detector(name)
    if not hasattr(module, "roi_heads"):
        unsaturated(module)
    file = sharp.model_file(folder, name, module)
    return file_model(f"file://{file}", digest_bytes(Path(file).read_bytes()), name=f"{name}@1")


def unsaturated(module: nn.Module) -> None:
    """Logits of a spread of two over all places: hundreds of scores of exactly one have no order that is the same."""
    heads = sharp._convolutions(module)
    seen: dict[nn.Module, float] = {}

    def look(head: nn.Module, _: object, output: torch.Tensor) -> None:
        seen[head] = max(float(output.std()), seen.get(head, 0.0))  # one head sees several levels

    hooks = [head.register_forward_hook(look) for head in heads]
    with torch.no_grad():
        module([sharp.as_input(pixels) for pixels in sample_images(2)])
        for head in heads:
            head.weight.mul_(2 / seen[head])
            head.bias.zero_()
    for hook in hooks:
        hook.remove()


def parity(folder: Path, name: str) -> None:
    model = sharp_file(folder, name)
    assert exports_boxes(model)
    data, found = exported_detector(model, sample_images(IMAGES))
    assert found.agreement >= 0.995
    assert found.max_abs_difference <= 1e-3
    card = check_onnx(data, where=name)
    assert card is not None
    assert (card.kind, card.labels, card.parent) == ("detect", ("__background__", "a", "b", "c"), f"{name}@1")
    assert card.metrics["parity_agreement"] == found.agreement
    print(f"{name}: agreement {found.agreement:.6f}, scores within {found.max_abs_difference:.2g}")


def save_photos(folder: Path, count: int) -> None:
    folder.mkdir()
    for number, pixels in enumerate(sample_images(count)):
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_export__a_detr_whose_processor_scales_otherwise_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "detr", "rf_detr")  # it scales floats without antialiasing
    files = as_model_folder(tmp_path / "detr", card=None).files
    (tmp_path / "detr" / CARD_FILE).write_bytes(files[CARD_FILE])
    model = folder_model(str(tmp_path / "detr"), digest_files(files), name="things@1")
    assert exports_boxes(model)
    with pytest.raises(ModelError, match="its own image processor makes its input"):
        exported_detector(model, sample_images(2))


def distinct(detr: nn.Module) -> None:
    """Signals that live on to the last layer: as they are drawn, all places look alike, and any may become a query."""
    lively(detr)
    norms = [part for part in detr.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.train()
        part.momentum = None
    with torch.no_grad():
        detr(pixel_values=torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(9)))
    for part in norms:
        part.eval()
        part.momentum = 0.1


@pytest.mark.parametrize("family", ["rt_detr", "rt_detr_v2", "d_fine"])
def test_export__a_detr_finds_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path, family: str) -> None:
    model, _ = write_folder(tmp_path / family, family)
    distinct(model)
    model.save_pretrained(tmp_path / family)
    registry = ("--registry", tmp_path / "registry")
    run(capsys, "models", "add", "things", tmp_path / family, *registry)
    save_photos(tmp_path / "photos", 3)
    export = ("models", "export", "things@1", "--onnx", tmp_path / "made.onnx", *registry)
    code, made, _ = run(capsys, *export, "--images", tmp_path / "photos")
    assert (code, made.get("kind"), made.get("parent")) == (0, "detect", "things@1"), made
    assert made["parity"]["agreement"] >= 0.995
    assert made["parity"]["max_abs_difference"] <= 1e-3
    code, added, _ = run(capsys, "models", "add", "file", tmp_path / "made.onnx", *registry)
    assert (code, added["card"]["labels"]) == (0, ["cat", "dog", "cow"])
    # both stretch an image of any size by the same filter
    ours = opened("detect", f"transformers/{tmp_path / family}").run(sharp.pictures())
    theirs = opened("detect", str(tmp_path / "made.onnx")).run(sharp.pictures())
    for one, other in zip(ours, theirs, strict=True):
        assert len(one.fields["boxes"]) == len(other.fields["boxes"]) > 0
        for box in one.fields["boxes"]:
            assert any(
                box["label"] == another["label"]
                and box["score"] == pytest.approx(another["score"], abs=1e-3)
                and box["box"] == pytest.approx(another["box"], abs=0.5)
                for another in other.fields["boxes"]
            )


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_export__of_a_larger_detector_finds_the_same(tmp_path: Path, name: str) -> None:
    parity(tmp_path, name)


def test_export__a_one_stage_detector_finds_the_same(tmp_path: Path) -> None:
    parity(tmp_path, "ssdlite320_mobilenet_v3_large")


def test_export__a_registered_detector_runs_as_an_onnx_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = Path(sharp.model_file(tmp_path, RCNN, sharp.torchvision_detector(RCNN)))
    card = check_file(file.read_bytes(), where="here")
    assert card is not None
    registry = tmp_path / "registry"
    Registry(open_store(parse(str(registry)))).add("things", file.read_bytes(), card.model_dump(mode="json"))
    save_photos(tmp_path / "photos", 2)
    command = ("models", "export", "things@1", "--onnx", tmp_path / "made.onnx", "--registry", registry)
    code, made, _ = run(capsys, *command, "--images", tmp_path / "photos")
    assert (code, made["kind"], made["parent"]) == (0, "detect", "things@1"), made
    assert made["parity"]["agreement"] >= 0.995
    # an image of the file's own size is scaled by neither
    scaled = to_canvas(sample_images(1)[0], Preprocessing(height_px=160, width_px=160))
    picture = view(scaled.permute(1, 2, 0).contiguous().numpy())
    sides = {"min_side_px": 160, "max_side_px": 160}
    (ours,) = opened("detect", str(file), **sides).run([picture])
    (theirs,) = opened("detect", str(tmp_path / "made.onnx")).run([picture])
    assert len(ours.fields["boxes"]) == len(theirs.fields["boxes"]) > 0
    assert ours.fields["cut"] == theirs.fields["cut"]
    for one in ours.fields["boxes"]:  # equal scores may come in another order
        assert any(
            one["label"] == other["label"]
            and one["score"] == pytest.approx(other["score"], abs=1e-3)
            and one["box"] == pytest.approx(other["box"], abs=0.5)
            for other in theirs.fields["boxes"]
        )
    with pytest.raises(ModelError, match=r"answers with boxes from 0\.05 on, the task's floor is 0\.01"):
        opened("detect", str(tmp_path / "made.onnx"), floor=0.01)


def test_export__a_detector_that_finds_something_else_or_nothing_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sharp_file(tmp_path, RCNN)
    whole = onnx_export._traced(*_parts(model), where="here")
    loaded = onnx.load_model_from_string(whole)
    for tensor in loaded.graph.initializer:
        if len(tensor.dims) == 2:
            tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name))
    for data, floor, said in (
        (loaded.SerializeToString(), 0.05, "finds other things than torch in 2 images"),
        (whole, 1.0, "finds nothing in 2 images, so that nothing can be compared"),
    ):
        monkeypatch.setattr(onnx_export, "_traced", lambda *_, data=data, **__: data)
        monkeypatch.setattr(onnx_export, "FLOOR", floor)
        with pytest.raises(ModelError, match=said):
            exported_detector(model, sample_images(2))


def _parts(model: ResolvedModel) -> tuple[object, object]:
    from winnow_workers.detectors.detector import Search
    from winnow_workers.detectors.torchvision_detector import TorchvisionDetector

    network, given = TorchvisionDetector(model, Search(floor=0.05, most=300), "cpu").at_one_size()
    return onnx_export._Batched.of(network), given
