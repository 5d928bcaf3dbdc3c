"""How does a view become a classifier's input? As its Preprocessing says, or by its folder's own processor.

What a folder's preprocessor_config.json says is translated where our Preprocessing says exactly the same: stretched to
one size, bilinear. Of what scales otherwise (bicubic, the shorter side and then the centre) the folder's processor is
run: cutting before scaling, as we do, moves the pixels.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_value
from winnow_workers.models.fixed_batch import FixedBatch
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.preprocess import needed_side_px, preproc_id
from winnow_workers.models.transformers_model import quiet_import, read_preprocessing

if TYPE_CHECKING:
    import torch

    from winnow_workers.operator import PixelsHWC

_REVISION = 1
_BILINEAR = 2  # Pillow's number
_CONFIG = "preprocessor_config.json"


class ImageInput(ABC):
    """`stand_in` has the right size, for whoever needs sample inputs; `side_px`: the shortest side a view needs."""

    id: str
    stand_in: Preprocessing
    side_px: int

    @abstractmethod
    def inputs(self, batch: FixedBatch, pixels: "Sequence[PixelsHWC]") -> "list[torch.Tensor]":
        """What is given to the batch for these images."""


class OwnInput(ImageInput):
    """As a Preprocessing says; the batch does it, on a CUDA device there."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.id = preproc_id(preprocessing)
        self.stand_in = preprocessing
        self.side_px = needed_side_px(preprocessing)

    def inputs(self, batch: FixedBatch, pixels: "Sequence[PixelsHWC]") -> "list[torch.Tensor]":
        """The batch's own."""
        return batch.inputs(pixels)


class ProcessorInput(ImageInput):
    """By a folder's own image processor, each image by itself."""

    def __init__(self, processor: Any, name: str) -> None:
        """Raises:
        ModelError: the processor's input has no one size.
        """
        self._processor = processor
        wide, tall = (self._tensor(np.zeros(shape, np.uint8)) for shape in ((40, 60, 3), (60, 40, 3)))
        if wide.shape != tall.shape:
            raise ModelError(
                f"{name}: its {_CONFIG} keeps the sides of an image, so that inputs differ in size",
                hint="add input: {height_px: ..., width_px: ..., mean: ..., std: ...} to the task",
            )
        height, width = (int(side) for side in wide.shape[1:])
        self.stand_in = Preprocessing(height_px=height, width_px=width)
        sides = [side for side in dict(getattr(processor, "size", None) or {}).values() if side]
        grown = max([height, width, *sides]) / float(getattr(processor, "crop_pct", None) or 1.0)
        self.side_px = math.ceil(grown)
        said = digest_value({"revision": _REVISION, "processor": processor.to_dict()})
        self.id = f"hf{_REVISION}-{width}x{height}-{said[:8]}"

    def inputs(self, batch: FixedBatch, pixels: "Sequence[PixelsHWC]") -> "list[torch.Tensor]":  # noqa: ARG002
        """The processor's."""
        return [self._tensor(one) for one in pixels]

    def _tensor(self, pixels: "PixelsHWC") -> "torch.Tensor":
        import torch

        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        made = self._processor(images=[image], return_tensors="pt", input_data_format="channels_first")
        values: torch.Tensor = made["pixel_values"][0]
        return values


def folder_input(folder: Path, wanted: Preprocessing | None, name: str) -> ImageInput:
    """What the task says, else what the folder says.

    Raises:
        ModelError: nobody says it, or the folder's processor cannot be used.
    """
    if wanted is not None:
        return OwnInput(wanted)
    place = folder / _CONFIG
    if not place.exists():
        raise ModelError(
            f"{name}: the folder has no {_CONFIG}, which says what the model's input is",
            hint="save the image processor into the folder too (save_pretrained), or add input: to the task",
        )
    same = read_preprocessing(folder)
    said = json.loads(place.read_bytes())
    is_plain = said.get("resample", _BILINEAR) == _BILINEAR and not said.get("do_flip_channel_order")
    if same is not None and same.fit == "stretch" and is_plain and "resample" in said:
        return OwnInput(same)
    return ProcessorInput(_open_processor(folder, name), name)


def plain_input(folder: Path, name: str) -> Preprocessing:
    """What a folder says of its input, as a card can say it.

    Raises:
        ModelError: it cannot: the folder's own processor has to be run.
    """
    found = folder_input(folder, None, name)
    if not isinstance(found, OwnInput):
        raise ModelError(
            f"{name}: its own image processor makes its input, in a way that the card of an ONNX file cannot say",
            hint="run the folder as it is, or save it with a processor that stretches to one size, bilinear",
        )
    return found.stand_in


def _open_processor(folder: Path, name: str) -> Any:
    try:
        with quiet_import():
            from transformers import AutoImageProcessor

            return AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, OSError, ImportError) as error:
        raise ModelError(f"{name}: its {_CONFIG} cannot be used: {error}", hint="save the processor again") from error
