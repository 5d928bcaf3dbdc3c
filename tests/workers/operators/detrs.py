"""Which transformers folders do the tests open? Tiny DETRs with random weights whose scores cover the whole range."""

from pathlib import Path
from typing import Any

import torch

from winnow_workers.models.transformers_model import quiet_import

SIDE_PX = 96
LABELS = {0: "cat", 1: "dog", 2: "cow"}


def write_folder(folder: Path, family: str) -> tuple[Any, Any]:
    """Save a model and its image processor; both as the library has them."""
    with quiet_import(), torch.random.fork_rng():
        torch.manual_seed(4)
        model, processor = _MAKERS[family]()
        model = model.eval()
        for name, part in model.named_parameters():
            if "class_embed" in name or "score_head" in name:
                torch.nn.init.normal_(part, std=0.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def _resnet() -> dict[str, Any]:
    from transformers import RTDetrResNetConfig

    return {
        "backbone_config": RTDetrResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        "encoder_in_channels": [16, 24, 32],
        "encoder_hidden_dim": 32,
        "encoder_ffn_dim": 32,
        "encoder_attention_heads": 2,
        "d_model": 32,
        "decoder_in_channels": [32, 32, 32],
        "decoder_ffn_dim": 32,
        "decoder_attention_heads": 2,
        "decoder_layers": 2,
        "num_queries": 30,
        "num_denoising": 0,
        "id2label": LABELS,
    }  # fmt: skip


def _rt_processor() -> Any:
    from transformers import RTDetrImageProcessor

    return RTDetrImageProcessor(size={"height": SIDE_PX, "width": SIDE_PX})


def _rt_detr() -> tuple[Any, Any]:
    from transformers import RTDetrConfig, RTDetrForObjectDetection

    return RTDetrForObjectDetection(RTDetrConfig(**_resnet())), _rt_processor()


def _rt_detr_v2() -> tuple[Any, Any]:
    from transformers import RTDetrV2Config, RTDetrV2ForObjectDetection

    return RTDetrV2ForObjectDetection(RTDetrV2Config(**_resnet())), _rt_processor()


def _d_fine() -> tuple[Any, Any]:
    from transformers import DFineConfig, DFineForObjectDetection

    return DFineForObjectDetection(DFineConfig(**_resnet(), decoder_n_points=[2, 2, 2])), _rt_processor()


def _rf_config() -> Any:
    from transformers import RfDetrConfig, RfDetrDinov2Config

    backbone = RfDetrDinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE_PX, patch_size=8, num_windows=1,
        out_features=["stage1", "stage2"], use_mask_token=False,
    )  # fmt: skip
    return RfDetrConfig(
        backbone_config=backbone, d_model=32, decoder_ffn_dim=32, decoder_layers=2, num_queries=30, group_detr=1,
        decoder_self_attention_heads=2, decoder_cross_attention_heads=2, decoder_n_points=2, id2label=LABELS,
    )  # fmt: skip


def _rf_processor() -> Any:
    from transformers import RfDetrImageProcessor

    return RfDetrImageProcessor(size={"height": SIDE_PX, "width": SIDE_PX})


def _rf_detr() -> tuple[Any, Any]:
    from transformers import RfDetrForObjectDetection

    return RfDetrForObjectDetection(_rf_config()), _rf_processor()


def _rf_detr_seg() -> tuple[Any, Any]:
    from transformers import RfDetrForInstanceSegmentation

    return RfDetrForInstanceSegmentation(_rf_config()), _rf_processor()


_MAKERS = {
    "rt_detr": _rt_detr,
    "rt_detr_v2": _rt_detr_v2,
    "d_fine": _d_fine,
    "rf_detr": _rf_detr,
    "rf_detr_seg": _rf_detr_seg,
}
