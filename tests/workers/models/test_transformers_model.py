"""Are transformers folders pinned, refused where unsafe, and opened exactly?"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.workers.operators.detrs import write_folder
from winnow_storage.errors import ModelError
from winnow_workers.models.resolve import resolve_model
from winnow_workers.models.transformers_model import open_transformers, quiet_import, read_preprocessing

with quiet_import():
    from transformers import ViTConfig, ViTForImageClassification


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        id2label={0: "cat", 1: "dog", 2: "owl"}, label2id={"cat": 0, "dog": 1, "owl": 2},
    )  # fmt: skip
    place = tmp_path / "vit"
    torch.manual_seed(3)
    ViTForImageClassification(config).save_pretrained(place)
    said = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (place / "preprocessor_config.json").write_text(json.dumps(said))
    return place


def test_open__equals_the_library(folder: Path) -> None:
    opened = open_transformers(resolve_model("transformers/vit", base=folder.parent), "classify", device="cpu")
    direct = ViTForImageClassification.from_pretrained(folder).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(opened.module(pixel_values=images).logits, direct(pixel_values=images).logits)
    assert opened.labels == ("cat", "dog", "owl")
    assert opened.preprocessing is not None
    assert (opened.preprocessing.height_px, opened.preprocessing.mean) == (32, (0.5, 0.5, 0.5))


def test_open__cached_by_digest_and_a_changed_file_is_refused(folder: Path) -> None:
    model = resolve_model(f"transformers/{folder}")
    cached = open_transformers(model, "classify", device="cpu").folder
    (folder / "config.json").write_bytes((folder / "config.json").read_bytes() + b"\n")
    assert open_transformers(model, "classify", device="cpu").folder == cached  # what was pinned
    (cached / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="expected"):
        open_transformers(model, "classify", device="cpu")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling_own.py", "sub/a.pkl"])
def test_resolve__pickles_and_code_are_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(ModelError, match="never read"):
        resolve_model(f"transformers/{folder}")


def test_resolve__remote_code_and_missing_weights_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ModelError, match="auto_map"):
        resolve_model(f"transformers/{folder}")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks model\.safetensors"):
        resolve_model(f"transformers/{folder}")


def test_open__a_buffer_that_others_wrote_is_accepted_and_a_stranger_is_not(folder: Path) -> None:
    place = folder / "model.safetensors"
    tensors = load_file(place)
    save_file({**tensors, "vit.embeddings.position_ids": torch.arange(5)}, place, metadata={"format": "pt"})
    assert open_transformers(resolve_model(f"transformers/{folder}"), "classify", device="cpu").labels
    save_file({**tensors, "vit.embeddings.other": torch.zeros(5)}, place, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"unexpected: vit\.embeddings\.other"):
        open_transformers(resolve_model(f"transformers/{folder}"), "classify", device="cpu")


def test_open__tied_weights_stand_once_in_the_file_or_under_each_name(tmp_path: Path) -> None:
    model, _ = write_folder(tmp_path, "rt_detr_v2")
    place = tmp_path / "model.safetensors"
    once = load_file(place)
    tied = model.all_tied_weights_keys
    assert tied
    assert not set(tied) & set(once)
    save_file(once | {name: once[same].clone() for name, same in tied.items()}, place, metadata={"format": "pt"})
    opened = open_transformers(resolve_model(f"transformers/{tmp_path}"), "detect", device="cpu").module
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in opened.state_dict().items())
    lost = next(iter(tied.values()))
    save_file({name: one for name, one in once.items() if name != lost}, place, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"missing: .*{lost}"):
        open_transformers(resolve_model(f"transformers/{tmp_path}"), "detect", device="cpu")


@pytest.mark.parametrize("damage", ["missing", "wrong shapes"])
def test_open__weights_that_do_not_fit_are_refused(folder: Path, damage: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    if damage == "missing":
        del tensors["classifier.weight"]
    else:
        tensors["classifier.weight"] = torch.zeros(7, 16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{damage}: .*classifier"):
        open_transformers(resolve_model(f"transformers/{folder}"), "classify", device="cpu")


def test_preprocessing__none_where_it_cannot_be_said(folder: Path) -> None:
    said = {"size": {"shortest_edge": 800, "longest_edge": 1333}, "do_pad": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    assert read_preprocessing(folder) is None
