"""Which SegFormer do the tests open? A tiny one of transformers with drawn weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from winnow_workers.models.transformers_model import quiet_import

LABELS = {0: "background", 1: "a", 2: "b", 3: "c"}


def write_segformer(folder: Path, labels: Mapping[int, str] = LABELS) -> tuple[Any, Any]:
    """Save a model and its image processor; both as the library has them."""
    with quiet_import(), torch.random.fork_rng():
        from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

        torch.manual_seed(5)
        config = SegformerConfig(
            depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=16, id2label=dict(labels),
            num_attention_heads=[1, 1, 1, 1],
        )  # fmt: skip
        model = SegformerForSemanticSegmentation(config).eval()
        torch.nn.init.normal_(model.decode_head.classifier.weight, std=1.0)
        processor = SegformerImageProcessor(size={"height": 64, "width": 64})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor
