"""Does a whole run, its driver and its actors, need no network, and not even ask for a host?

In namespaces of the kernel's that have only a loopback, with a resolver that knows no name. Several builders of
torchvision, timm and smp fetch a backbone unless they are told not to; here every weight is in a file beside the spec.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.e2e.winnow import Ended, photographs, winnow
from tests.e2e.without_network import RESOLV_CONF
from tests.workers.operators.detrs import write_folder
from winnow_workers.catalogue import OPERATORS
from winnow_workers.models.build import build_network
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.shapes_only import META

HELPER = Path(__file__).with_name("without_network.py")
ALONE = ("unshare", "--map-root-user", "--net", "--mount")
IMAGES = 3
SMALL = "input: {height_px: 64, width_px: 64}"
SMALL_SIDES = "min_side_px: 64, max_side_px: 96"
FEW_BOXES = "floor: 0.3, threshold: 0.5, max_boxes: 20"
# task -> operator, architecture of its file, how the task is configured
FROM_FILES = {
    "ssd": ("detect", "torchvision/ssdlite320_mobilenet_v3_large", FEW_BOXES),
    "rcnn": ("detect", "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn", f"{FEW_BOXES}, {SMALL_SIDES}"),
    "regions": ("segment", "torchvision/deeplabv3_mobilenet_v3_large", SMALL),
    "unet": ("segment", "smp/unet/resnet18", SMALL),
    "vector": ("embed", "timm/test_vit", ""),
    "sort": ("classify", "torchvision/squeezenet1_1", SMALL),
}
LARGE = {
    "vgg": ("detect", "torchvision/ssd300_vgg16", FEW_BOXES),
    "retina": ("detect", "torchvision/retinanet_resnet50_fpn", f"{FEW_BOXES}, {SMALL_SIDES}"),
    "fcos": ("detect", "torchvision/fcos_resnet50_fpn", f"{FEW_BOXES}, {SMALL_SIDES}"),
    "things": ("segment", "torchvision/maskrcnn_resnet50_fpn", f"max_masks: 3, {SMALL_SIDES}"),
    "fcn": ("segment", "torchvision/fcn_resnet50", SMALL),
    "kind": ("classify", "torchvision/googlenet", ""),
}
OTHERS = {
    "text": "operator: ocr",
    "defect": "operator: anomaly, model: timm/test_resnet, weights: {random: 1}",
}


def write_weights(path: Path, architecture: str) -> None:
    """Small random ones; what is found with them does not matter here."""
    labels = () if architecture.startswith("timm/") else ("__background__", "a", "b")
    network = build_network(architecture, {}, n_labels=len(labels) or None, device=META)
    drawn = torch.Generator().manual_seed(1)
    tensors = {
        name: torch.zeros(one.shape, dtype=one.dtype)
        if not one.is_floating_point()
        else torch.ones(one.shape)
        if name.endswith("running_var")
        else torch.empty(one.shape).normal_(std=0.02, generator=drawn)
        for name, one in network.state_dict().items()
    }
    path.write_bytes(encode_model(tensors, ModelCard(architecture=architecture, labels=labels)))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A corpus; models are removed afterwards: they are large."""
    photographs(tmp_path / "photos", IMAGES)
    yield tmp_path
    shutil.rmtree(tmp_path)


def require_namespace() -> None:
    """Skip where the kernel lets nobody have a network of their own."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare (util-linux), so that nothing can be run without a network")
    tried = subprocess.run(
        [*ALONE, "mount", "--bind", os.devnull, RESOLV_CONF], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"the kernel gives no namespaces here: {tried.stderr.strip()}")


def without_network(*arguments: str | Path, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Ended, str]:
    """How the command ended, and for which hosts it, or a process of its own, asked."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "RAY_ADDRESS"):  # a user's shell has none of them
        monkeypatch.delenv(name, raising=False)
    environ = {"XDG_CACHE_HOME": str(cwd / "cache"), "TORCH_HOME": str(cwd / "cache/torch")}
    before = (*ALONE, sys.executable, str(HELPER), str(cwd / "asked"))
    ended = winnow(*arguments, cwd=cwd, environ=environ, before=before)
    return ended, (cwd / "asked").read_text()


def test_helper__leaves_no_way_out_and_notes_who_is_looked_for(tmp_path: Path) -> None:
    require_namespace()
    tried = (
        "import errno, socket, urllib.request\n"
        "try:\n"
        "    urllib.request.urlopen('http://weights.invalid/backbone')\n"
        "except OSError:\n"
        "    pass\n"
        "with socket.socket() as one:\n"
        "    assert one.connect_ex(('192.0.2.1', 80)) == errno.ENETUNREACH\n"  # RFC 5737: nobody's address
    )
    subprocess.run([*ALONE, sys.executable, HELPER, tmp_path / "asked", sys.executable, "-c", tried], check=True)
    assert (tmp_path / "asked").read_text() == "weights.invalid\n"


def run_all(
    folder: Path, files: dict[str, tuple[str, str, str]], others: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    for name, (operator, architecture, how) in files.items():
        write_weights(folder / f"{name}.safetensors", architecture)
        more = f", {how}" if how else ""
        lines.append(f"  - {{name: {name}, operator: {operator}, model: {name}.safetensors{more}}}\n")
    lines += [f"  - {{name: {name}, {what}}}\n" for name, what in others.items()]
    spec = folder / "job.yaml"
    spec.write_text(
        f"name: alone\ncorpus: photos\noutput: out\nledger: sqlite:///{folder}/ledger.db\ntasks:\n{''.join(lines)}"
        "run: {actors: 1}\n"
    )
    ended, asked = without_network("run", spec, "--json", cwd=folder, monkeypatch=monkeypatch)
    assert ended.code == 0, ended.err
    assert ended.record["outcomes"]["done"] == IMAGES
    assert ended.record["predictions"] == dict.fromkeys([*files, *others], IMAGES)
    assert asked == ""


def test_run__without_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_namespace()
    others = {what.removeprefix("operator: ").partition(",")[0] for what in OTHERS.values()}
    assert {operator for operator, _, _ in FROM_FILES.values()} | others == set(OPERATORS)
    run_all(folder, FROM_FILES, OTHERS, monkeypatch)


@pytest.mark.long
def test_run__without_a_network_every_builder_that_fetches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_namespace()
    write_folder(folder / "detr", "rt_detr")
    run_all(folder, LARGE, {"detr": "operator: detect, model: transformers/detr"}, monkeypatch)
