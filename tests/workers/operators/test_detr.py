"""Do detect and segment say of transformers folders what the library says of each image alone?"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.operators import detrs, sharp
from tests.workers.operators.making import opened
from tests.workers.operators.test_detect import same_boxes
from winnow_storage.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def asked(model: Any, processor: Any, pixels: np.ndarray) -> Any:
    inputs = processor(images=[torch.from_numpy(pixels).permute(2, 0, 1)], return_tensors="pt")
    with torch.no_grad():
        return model(**inputs)


@pytest.mark.parametrize("family", ["rt_detr", "rt_detr_v2", "d_fine", "rf_detr"])
def test_detect__a_folder_as_the_library_on_each_image_alone(family: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model, processor = detrs.write_folder(tmp_path, family)
    predictions = opened("detect", f"transformers/{tmp_path}").run(sharp.pictures())
    for picture, prediction in zip(sharp.pictures(), predictions, strict=True):
        size = [(picture.height_px, picture.width_px)]
        (said,) = processor.post_process_object_detection(
            asked(model, processor, picture.pixels), threshold=0.05, target_sizes=size
        )
        boxes = np.clip(said["boxes"].numpy(), 0, [picture.width_px, picture.height_px] * 2)
        labels = [detrs.LABELS[index] for index in said["labels"].tolist()]
        assert len(labels) > 5
        same_boxes(prediction.fields["boxes"], labels, boxes, said["scores"].numpy())


def test_segment__rf_detr_seg_as_the_library_on_each_image_alone(tmp_path: Path) -> None:
    from pycocotools import mask as coco

    torch.set_num_threads(1)
    model, processor = detrs.write_folder(tmp_path, "rf_detr_seg")
    predictions = opened("segment", f"transformers/{tmp_path}").run(sharp.pictures())
    for picture, prediction in zip(sharp.pictures(), predictions, strict=True):
        size = [(picture.height_px, picture.width_px)]
        (said,) = processor.post_process_instance_segmentation(
            asked(model, processor, picture.pixels), threshold=0.05, target_sizes=size, return_binary_maps=True
        )
        ours = [one for one in prediction.fields["masks"] if one["area_px"]]
        assert len(ours) == len(said["segments_info"]) > 0
        for mask, info, one in zip(said["segmentation"], said["segments_info"], ours, strict=True):
            assert one["label"] == detrs.LABELS[info["label_id"]]
            assert one["score"] == pytest.approx(info["score"], abs=1e-4)
            drawn = coco.decode({**one["rle"], "counts": one["rle"]["counts"].encode()}).astype(bool)
            assert (drawn != mask.numpy()).mean() < 0.001


def test_detect__a_folder_without_its_preprocessor(tmp_path: Path) -> None:
    detrs.write_folder(tmp_path, "rt_detr")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="has no preprocessor_config"):
        opened("detect", f"transformers/{tmp_path}")


def test_detect__a_folder_has_its_own_input_and_labels(tmp_path: Path) -> None:
    detrs.write_folder(tmp_path, "rt_detr")
    with pytest.raises(ModelError, match="which the task cannot replace"):
        opened("detect", f"transformers/{tmp_path}", min_side_px=64)
    with pytest.raises(ModelError, match="1 labels for a model with 3 classes"):
        opened("detect", f"transformers/{tmp_path}", labels=["only"])
