"""Is a query embedded as the rows are: an image by the very same task, a text by the other tower of its pair?"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from tests.workers.operators.making import opened, view
from winnow_storage.errors import ModelError, UsageError
from winnow_workers.decode import DecodeLimits, DecodeSettings
from winnow_workers.models.resolve import resolve_model
from winnow_workers.models.transformers_model import quiet_import
from winnow_workers.operator import TaskConfig
from winnow_workers.querying import embed_image, embed_text
from winnow_workers.signals import Rejected, Unreadable

with quiet_import():
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

SIDE_PX = 32
TOWER = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "image_size": SIDE_PX, "patch_size": 16,
}  # fmt: skip
TEXT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 9,
    "max_position_embeddings": 6, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
PAIRS: dict[str, Any] = {
    "clip": lambda: transformers.CLIPModel(
        transformers.CLIPConfig(text_config=TEXT, vision_config=TOWER, projection_dim=8)
    ),
    "siglip": lambda: transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=TOWER)),
}
WORDS = {"<pad>": 0, "<s>": 1, "</s>": 2, "a": 3, "red": 4, "cat": 5, "<unk>": 6}
LIMITS, SETTINGS = DecodeLimits(), DecodeSettings()


@pytest.fixture(scope="module", params=list(PAIRS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = PAIRS[request.param]().eval()
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    said = {"size": {"height": SIDE_PX, "width": SIDE_PX}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder, model


def config(folder: Path, **params: object) -> TaskConfig:
    return TaskConfig("v", "embed", resolve_model(f"transformers/{folder}"), params)


def test_embed_text__equals_the_library(pair: tuple[Path, Any]) -> None:
    folder, model = pair
    ids = [WORDS["a"], WORDS["cat"], WORDS["</s>"]]
    if isinstance(model, transformers.SiglipModel):  # filled up to its longest
        ids += [WORDS["<pad>"]] * 3
        mask = [1, 1, 1, 0, 0, 0]
    else:
        mask = [1, 1, 1]
    with torch.inference_mode():
        direct = model.get_text_features(
            input_ids=torch.tensor([ids]), attention_mask=torch.tensor([mask])
        ).pooler_output[0]
    assert embed_text(config(folder), "a cat </s>") == pytest.approx(direct.double().numpy(), abs=1e-6)


def test_embed_text__as_wide_as_the_images(pair: tuple[Path, Any]) -> None:
    task = config(pair[0])
    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()).save(buffer, "PNG")
    image = embed_image(task, buffer.getvalue, LIMITS, SETTINGS)
    assert image.shape == embed_text(task, "red cat").shape


def test_embed_text__what_is_wrong(pair: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = pair
    with pytest.raises(UsageError, match="7 tokens long, the model reads 6"):
        embed_text(config(folder), "a a a a a a a")
    with pytest.raises(UsageError, match="only the vectors of pooling: model share a space with texts"):
        embed_text(config(folder, pooling="mean"), "a")
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelError, match="its tokenizer cannot be opened"):
        embed_text(config(tmp_path), "a")


def test_embed_text__no_pair() -> None:
    task = TaskConfig("v", "embed", resolve_model("builtin/fingerprint"), {})
    with pytest.raises(UsageError, match="builtin/fingerprint embeds images only"):
        embed_text(task, "a")


def test_embed_image__as_the_rows(tmp_path: Path) -> None:
    pixels = data.chelsea()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    task = TaskConfig("v", "embed", resolve_model("timm/test_vit", {"random": 2}), {"pooling": "mean+cls"})
    (row,) = opened("embed", "timm/test_vit", weights={"random": 2}, pooling="mean+cls").run([view(pixels)])
    assert np.array_equal(embed_image(task, buffer.getvalue, LIMITS, SETTINGS), row.fields["vector"])


def test_embed_image__what_is_no_image() -> None:
    task = TaskConfig("v", "embed", resolve_model("builtin/fingerprint"), {})
    with pytest.raises(Unreadable):
        embed_image(task, lambda: b"no image", LIMITS, SETTINGS)
    with pytest.raises(Rejected, match=r"limits\.max_bytes"):
        embed_image(task, lambda: b"x" * 11, DecodeLimits(max_bytes=10), SETTINGS)
