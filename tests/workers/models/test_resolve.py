"""Does every way of naming a model end in one pinned model, or in a message that says what to write?"""

from pathlib import Path

import pytest
import torch
from pydantic import BaseModel

from winnow_storage.blobs import open_store
from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_bytes
from winnow_storage.registry import Registry
from winnow_storage.uri import parse
from winnow_workers.models.cache import cache_folder
from winnow_workers.models.load import load_weights
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.ocr_wheel import wheel_digest
from winnow_workers.models.reference import ResolvedModel, Weights
from winnow_workers.models.resolve import resolve_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def weights_file(folder: Path) -> tuple[Path, str]:
    data = encode_model({"a": torch.ones(2)}, ModelCard(architecture="builtin/digit_cnn"))
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    return path, digest_bytes(data)


def test_resolve_model__file_is_hashed_and_cached(tmp_path: Path) -> None:
    path, sha256 = weights_file(tmp_path)
    expected = Weights(kind="file", uri=path.as_uri(), sha256=sha256)
    for reference in (str(path), path.as_uri(), "weights.safetensors"):
        model = resolve_model(reference, base=tmp_path)
        assert model == ResolvedModel(name=reference, architecture=None, weights=expected, digest=sha256)
    assert (cache_folder() / sha256).read_bytes() == path.read_bytes()


def test_resolve_model__architecture_with_a_file(tmp_path: Path) -> None:
    path, sha256 = weights_file(tmp_path)
    model = resolve_model("builtin/digit_cnn", {"uri": path.name, "sha256": sha256}, base=tmp_path)
    assert (model.architecture, model.digest) == ("builtin/digit_cnn", sha256)


def test_resolve_model__weights_as_a_spec_section() -> None:
    class Section(BaseModel):
        random: int

    assert resolve_model("builtin/digit_cnn", Section(random=3)).digest == "random:3"


def test_resolve_model__state_dict_needs_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(ModelError, match="only when its sha256 is given"):
        resolve_model("builtin/digit_cnn", {"uri": str(path)})
    sha256 = digest_bytes(path.read_bytes())
    assert resolve_model("builtin/digit_cnn", {"uri": str(path), "sha256": sha256}).digest == sha256


def test_resolve_model__builtin_without_weights() -> None:
    fingerprint = resolve_model("builtin/fingerprint")
    assert (fingerprint.digest, fingerprint.weights.kind) == ("builtin:fingerprint", "builtin")
    ocr = resolve_model("builtin/rapidocr")
    assert ocr.digest == f"builtin:rapidocr:{wheel_digest()[:16]}"
    assert ocr.weights.sha256 == wheel_digest()


def test_resolve_model__registry(tmp_path: Path) -> None:
    registry = Registry(open_store(parse(str(tmp_path / "registry"))))
    entry = registry.add("kind", weights_file(tmp_path)[0].read_bytes(), {})
    registry.promote("kind", entry.version, "prod")
    for reference in ("models/kind@prod", "models/kind@1", "models/kind"):
        model = resolve_model(reference, registry=registry)
        assert (model.name, model.digest) == (reference, entry.sha256)
        assert model.weights == Weights(kind="file", uri=entry.uri, sha256=entry.sha256)
        assert load_weights(model).card == ModelCard(architecture="builtin/digit_cnn")
    with pytest.raises(ModelError, match="no version or stage 'next'"):
        resolve_model("models/kind@next", registry=registry)


@pytest.mark.parametrize(
    ("reference", "weights", "message"),
    [
        (None, None, "names no model"),
        ("transformers/dino", None, "lacks config.json"),
        ("torchvision/resnet50", None, r"add weights: \{uri: FILE\}, pretrained or"),
        ("timm/resnet50", None, "not where its weights come from"),
        ("builtin/small_unet", None, r"add weights: \{uri: FILE\} or \{random: SEED\}"),
        ("torchvision/resnet5O", {"random": 1}, "did you mean torchvision/resnet50"),
        ("timm/resnet_50", {"random": 1}, "did you mean timm/resnet50"),
        ("timm/hf-hub:timm/resnet50", {"random": 1}, "timm has no model named"),
        ("builtin/digits_cnn", {"random": 1}, "did you mean builtin/digit_cnn"),
        ("builtin/fingerprint", {"random": 1}, "takes no weights"),
        ("builtin/digit_cnn", "pretrained", "has no public weights"),
        ("builtin/digit_cnn", {"rnd": 1}, "is not understood"),
        ("builtin/digit_cnn", {"uri": "x.safetensors", "sha256": "12"}, "is not understood"),
        ("models/kind", None, "no model registry"),
        ("models/kind", {"random": 1}, "already says where"),
        ("gone.safetensors", None, "there is no weights file at file:///"),
        ("builtin/digit_cnn", {"uri": "/gone.safetensors", "sha256": "0" * 64}, "there is no weights file"),
    ],
)
def test_resolve_model__messages(
    reference: str | None, weights: str | dict[str, object] | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as raised:
        resolve_model(reference, weights, base=tmp_path)
    assert raised.match(message)
    assert raised.value.hint
