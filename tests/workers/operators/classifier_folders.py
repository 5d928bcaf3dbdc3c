"""Which transformers folders do the tests of classify open? Tiny ones with random weights that tell images apart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.workers.operators.sharp_classifiers import sharpen
from winnow_workers.models.transformers_model import quiet_import

SIDE_PX = 64
LABELS = {0: "cat", 1: "dog", 2: "owl", 3: "cow"}
WORDS = ("a", "photo", "of", "the", "cat", "dog", "owl", "cow", "this", "is", "drawing", "big")


def write_classifier(folder: Path, family: str, pixels: list[np.ndarray], **more: Any) -> tuple[Any, Any]:
    """Save a classifier with a head, and its image processor; both as the library has them."""
    with quiet_import(), torch.random.fork_rng():
        torch.manual_seed(4)
        model, processor = HEADS[family](more)
    made = [processor(images=[as_chw(one)], return_tensors="pt")["pixel_values"] for one in pixels]
    sharpen(model, torch.cat(made))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def write_pair(folder: Path, family: str) -> tuple[Any, Any, Any]:
    """Save a pair of towers with its processor and a tokenizer of a few words."""
    with quiet_import(), torch.random.fork_rng():
        torch.manual_seed(7)
        model, processor = PAIRS[family]()
        tokenizer = _tokenizer()
    with torch.no_grad():
        for name, part in model.named_parameters():
            if part.ndim > 1:
                nn.init.normal_(part, std=(2.0 / part[0].numel()) ** 0.5 if "embed" not in name else 1.0)
        model.logit_scale.fill_(2.0)
        if hasattr(model, "logit_bias"):
            model.logit_bias.fill_(-1.0)
    model = model.eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, processor, tokenizer


def as_chw(pixels: np.ndarray) -> torch.Tensor:
    """What the library's processors take."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def say_problem(folder: Path, problem: str) -> None:
    """Write a problem_type into the configuration."""
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "problem_type": problem}))


def _vit(more: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=SIDE_PX,
        patch_size=16, id2label=LABELS, **more,
    )  # fmt: skip
    return ViTForImageClassification(config), ViTImageProcessor(size={"height": SIDE_PX, "width": SIDE_PX})


def _convnext(more: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessor

    config = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], id2label=LABELS, **more)
    return ConvNextForImageClassification(config), ConvNextImageProcessor(size={"shortest_edge": SIDE_PX})


def _mobilevit(more: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import MobileViTConfig, MobileViTForImageClassification, MobileViTImageProcessor

    config = MobileViTConfig(
        image_size=SIDE_PX, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
        num_attention_heads=2, id2label=LABELS, **more,
    )  # fmt: skip
    size = {"size": {"shortest_edge": SIDE_PX + 8}, "crop_size": {"height": SIDE_PX, "width": SIDE_PX}}
    return MobileViTForImageClassification(config), MobileViTImageProcessor(**size)


def _towers() -> dict[str, Any]:
    common = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {
        "text_config": {
            **common, "vocab_size": len(WORDS) + 4, "max_position_embeddings": 16, "eos_token_id": len(WORDS) + 3,
            "bos_token_id": 1, "pad_token_id": 0, "projection_size": 32,
        },
        "vision_config": {**common, "image_size": SIDE_PX, "patch_size": 16},
    }  # fmt: skip


def _clip() -> tuple[Any, Any]:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    sides = {"size": {"shortest_edge": SIDE_PX}, "crop_size": {"height": SIDE_PX, "width": SIDE_PX}}
    return CLIPModel(CLIPConfig(**_towers(), projection_dim=32)), CLIPImageProcessor(**sides)


def _siglip() -> tuple[Any, Any]:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    return SiglipModel(SiglipConfig(**_towers())), SiglipImageProcessor(size={"height": SIDE_PX, "width": SIDE_PX})


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "<unk>", *WORDS, "</s>"]  # CLIP looks at the highest
    fast = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", len(names) - 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


HEADS = {"vit": _vit, "convnext": _convnext, "mobilevit": _mobilevit}
PAIRS = {"clip": _clip, "siglip": _siglip}
