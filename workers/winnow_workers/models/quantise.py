"""How does a model become a cheaper one? In bfloat16 (half the bytes), or in int8 by ONNX Runtime (a quarter).

int8: static quantisation to QDQ, weights per channel, activations by their range on images (MinMax), as ONNX Runtime
advises for convolutions on CPUs. Layers that answer (the last one) stay as they are.
"""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_bytes
from winnow_storage.registry import ONNX, SAFETENSORS
from winnow_workers.models.build import open_weights
from winnow_workers.models.convert import ModelFile
from winnow_workers.models.load import keep
from winnow_workers.models.model_file import ModelCard, Variant, encode_model
from winnow_workers.models.onnx_export import checked, export, open_bytes
from winnow_workers.models.onnx_file import with_card
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.variants import Compared, OpenForm, Pixels, compare, file_model, open_form

CALIBRATION_IMAGES = 32


def quantised(
    model: ResolvedModel, form: OpenForm, to: Variant, images: Sequence[Pixels], *, parent: str
) -> tuple[ModelFile, Compared]:
    """A cheaper version of a model, and how alike it answers on the images; both are in its card.

    Raises:
        ModelError: it cannot be made.
    """
    if form.card.variant is not None:
        raise ModelError(
            f"{parent} is a variant in {form.card.variant} already", hint=f"quantise its parent, {form.card.parent}"
        )
    if to == "bf16":
        return _in_bfloat16(model, form, images, parent=parent)
    return _in_int8(model, form, images, parent=parent)


def _in_bfloat16(
    model: ResolvedModel, form: OpenForm, images: Sequence[Pixels], *, parent: str
) -> tuple[ModelFile, Compared]:
    import torch

    if (model.weights.uri or "").endswith(".onnx"):
        raise ModelError(f"{parent} is an ONNX file, which has no bfloat16 form here", hint="write --to int8")
    if model.weights.kind == "folder":
        raise ModelError(
            f"{parent} is a transformers folder, which has no bfloat16 form here",
            hint="write precision: bf16 in the task: it runs the folder so",
        )
    card = form.card.model_copy(update={"variant": "bf16", "parent": parent, "kind": form.kind})
    tensors = {
        name: tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
        for name, tensor in open_weights(model).tensors.items()
    }

    def as_file(card: ModelCard) -> bytes:
        return encode_model(tensors, card)

    data = as_file(card)
    found = compare(form, _open(data, "safetensors", form, parent), images)
    card = _measured(card, found)
    return ModelFile(as_file(card), card.model_dump(mode="json"), SAFETENSORS), found


def _in_int8(
    model: ResolvedModel, form: OpenForm, images: Sequence[Pixels], *, parent: str
) -> tuple[ModelFile, Compared]:
    from winnow_workers.models.load import cached, fetch

    weights = model.weights
    if (weights.uri or "").endswith(".onnx"):
        source = cached(weights.sha256 or "", lambda: fetch(weights), where=parent)
    else:
        source, _ = checked(form, export(form, where=parent, parent=parent), images[:8], where=parent)
    data = _static(source, _Reader(form, images[:CALIBRATION_IMAGES]), where=parent)
    card = form.card.model_copy(
        update={"arguments": {}, "variant": "int8", "parent": parent, "kind": form.kind, "preprocessing": form.input}
    )
    found = compare(form, open_bytes(with_card(data, card, where=parent), form, where=parent), images)
    card = _measured(card, found)
    return ModelFile(with_card(data, card, where=parent), card.model_dump(mode="json"), ONNX), found


def _measured(card: ModelCard, found: Compared) -> ModelCard:
    """With what was measured of the variant itself: accuracy and temperature are of its parent's logits."""
    return card.model_copy(
        update={
            "calibrator": None,
            "metrics": {
                "parent_agreement": found.agreement,
                "parent_max_abs_difference": found.max_abs_difference,
                "parent_images": found.images,
            },
        }
    )


def _open(data: bytes, suffix: str, form: OpenForm, where: str) -> OpenForm:
    sha256 = digest_bytes(data)
    keep(data, sha256)
    return open_form(file_model(f"file:///{sha256}.{suffix}", sha256, name=where), form.kind)


class _Reader:
    """Gives ONNX Runtime the images to see the activations' ranges on, one by one."""

    def __init__(self, form: OpenForm, images: Sequence[Pixels]) -> None:
        self._left = [one.numpy()[None] for one in form.batch.inputs(images)]
        self.name = "images"
        self.size = 1

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next batch, None after the last."""
        if not self._left:
            return None
        part, self._left = self._left[: self.size], self._left[self.size :]
        while len(part) < self.size:
            part.append(part[-1])
        return {self.name: np.concatenate(part)}


def _static(source: bytes, reader: _Reader, *, where: str) -> bytes:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization.quantize import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    loaded: Any = onnx.load_model_from_string(source)
    given = loaded.graph.input[0]
    reader.name = given.name
    reader.size = given.type.tensor_type.shape.dim[0].dim_value or 1
    CalibrationDataReader.register(_Reader)
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it warns on the root logger of what was done here already
    try:
        with tempfile.TemporaryDirectory(prefix="winnow-int8-") as folder:
            given_file, ready, made = (Path(folder) / f"{one}.onnx" for one in ("given", "ready", "int8"))
            given_file.write_bytes(source)
            quant_pre_process(str(given_file), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready),
                str(made),
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                nodes_to_exclude=_answering(str(ready)),
            )
            return made.read_bytes()
    except (ValueError, RuntimeError, AttributeError, KeyError) as error:
        raise ModelError(
            f"{where}: ONNX Runtime cannot quantise it: {error}", hint="write --to bf16, or keep the model as it is"
        ) from error
    finally:
        logging.getLogger().setLevel(level)


def _answering(path: str) -> list[str]:
    """The last node that multiplies by weights: its error would be the answer's own."""
    import onnx

    nodes = [one.name for one in onnx.load(path).graph.node if one.op_type in ("Gemm", "MatMul", "Conv")]
    return nodes[-1:] if len(nodes) > 1 else []
