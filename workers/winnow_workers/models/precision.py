"""In which precision does a task's network run? In float32, or in bfloat16 where that is measured to answer alike."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from winnow_storage.errors import ModelError
from winnow_workers.models.agreement import THRESHOLD, Compares, agreements, overall
from winnow_workers.models.batch_size import (
    CPU_MOST,
    CPU_WORTH_IMAGES,
    MOST,
    best_size,
    known_size,
    measured_rate,
    processor_name,
    remember_smaller,
    remembered_size,
)
from winnow_workers.models.fixed_batch import FixedBatch
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.sample_images import sample_images
from winnow_workers.models.shapes_only import META
from winnow_workers.operator import OperatorParams

if TYPE_CHECKING:
    from torch import nn

Precision = Literal["fp32", "bf16", "auto"]
SAMPLE_IMAGES = 64  # so one other label is too many: 63 of 64 are 98.4 %
DENSE_IMAGES = 8  # where each has thousands of positions


class TorchParams(OperatorParams):
    """Of every operator with a torch network. `auto`: bfloat16 where the device has it and it agrees with float32."""

    # left out of what a task's digest is made of at its default: tasks of before it existed keep theirs
    precision: Precision = Field(default="fp32", exclude_if=lambda value: value == "fp32")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a task asks of its network's precision, and what is needed to see whether bfloat16 gives it.

    `compares`: "choice" for logits, of images or of pixels; "direction" for features. `model`: the task's.
    `threads` of the CPU run the network there, or prepare inputs for a CUDA device. `images`: of the whole run.
    """

    precision: Precision
    input: Preprocessing
    compares: Compares
    model: ResolvedModel
    threads: int = 1
    images: int = 0


def open_batch(module: "nn.Module", device: str, wanted: Wanted) -> FixedBatch:
    """The network in its fixed batches, in the precision that `wanted` asks for and the best size.

    On a CPU that is looked for where a run has enough images for it to pay, and remembered for those that follow.
    The agreement is measured once, on drawn images that are the same for all: processes on the same kind of device
    decide alike.

    Raises:
        ModelError: bfloat16 is asked for, and the answers differ too often from those of float32, or the network
            cannot run in it.
    """
    batch = FixedBatch(module, device, wanted.input, threads=wanted.threads)
    _settle_precision(batch, wanted)
    if device == "cuda" or (device == "cpu" and not _is_onnx(batch)):  # a file may be written for one size
        _settle_size(batch, wanted)
    return batch


def _settle_precision(batch: FixedBatch, wanted: Wanted) -> None:
    import torch

    device = batch.device
    if _is_onnx(batch):
        if wanted.precision == "bf16":
            raise ModelError(
                f"{wanted.model.name}: an ONNX file runs in the precision that it was written in",
                hint="remove precision: from the task",
            )
        return
    if any(getattr(part, "is_bfloat16_variant", False) for part in batch.module.modules()):
        batch.precision = "bf16"  # measured when it was made, its card says how well
        return
    if wanted.precision == "fp32" or device == META or (wanted.precision == "auto" and not has_bfloat16(device)):
        return
    try:
        reached = _measured(batch, wanted)
    except RuntimeError as error:  # an operation that torch has not for bfloat16
        if isinstance(error, torch.OutOfMemoryError) or batch.precision == "fp32":
            raise
        if wanted.precision == "bf16":
            raise ModelError(
                f"{wanted.model.name}: it cannot run in bfloat16 on {device}: {error}",
                hint="write precision: fp32 in this task, or precision: auto",
            ) from error
        reached = 0.0
    if reached < THRESHOLD and wanted.precision == "bf16":
        raise ModelError(
            _disagree(wanted, device, reached),
            hint="write precision: fp32 in this task, or auto, which uses bfloat16 only where it agrees",
        )
    batch.precision = "bf16" if reached >= THRESHOLD else "fp32"


def _is_onnx(batch: FixedBatch) -> bool:
    from winnow_workers.models.onnx_network import OnnxModule

    return any(isinstance(part, OnnxModule) for part in batch.module.modules())


def _settle_size(batch: FixedBatch, wanted: Wanted) -> None:
    import torch

    image = batch.inputs(sample_images(1))[0]
    key: dict[str, object] = {
        "model": wanted.model.digest,
        "architecture": wanted.model.architecture,
        "device": torch.cuda.get_device_name() if batch.device == "cuda" else batch.device,
        "input": [str(image.dtype), *image.shape],
        "compares": wanted.compares,  # another part of the same network
        "precision": batch.precision,
        "torch": str(torch.__version__),
    }
    most = MOST
    if batch.device == "cpu":
        key |= {"device": processor_name(), "threads": wanted.threads}
        most = CPU_MOST
        if wanted.images < CPU_WORTH_IMAGES:
            batch.size = known_size(key) or batch.size
            return
        torch.set_num_threads(wanted.threads)  # the fastest size is another with other threads
    batch.size = remembered_size(
        key, lambda: best_size(lambda size: measured_rate(batch, image, size), start=batch.size, most=most)
    )
    batch.on_halved = partial(remember_smaller, key)


def has_bfloat16(device: str) -> bool:
    """Has the device bfloat16 arithmetic of its own? Without, it is emulated and may well be slower."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch asks the processor itself, and has no public name for it
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001


def precision_id(preprocessing_id: str, batch: FixedBatch) -> str:
    """What a row says in `preproc`: "p1-224x224-crop-3f2a9c01-bf16"; float32 is not said."""
    return preprocessing_id if batch.precision == "fp32" else f"{preprocessing_id}-{batch.precision}"


def _measured(batch: FixedBatch, wanted: Wanted) -> float:
    """The agreement of bfloat16 with float32 over the sample, one batch after the other: dense outputs are large."""
    each: list[npt.NDArray[np.floating[Any]]] = []
    count, done = SAMPLE_IMAGES, 0
    images = sample_images(SAMPLE_IMAGES)
    while done < count:
        inputs = batch.inputs(images[done : min(count, done + batch.size)])
        batch.precision = "fp32"
        exact = np.stack([one.numpy() for one in batch(inputs)])
        batch.precision = "bf16"
        each.append(agreements(exact, np.stack([one.numpy() for one in batch(inputs)]), wanted.compares))
        done += len(inputs)
        if exact.ndim > 2:
            count = DENSE_IMAGES
    return overall(np.concatenate(each)[:count], wanted.compares)


def _disagree(wanted: Wanted, device: str, reached: float) -> str:
    if wanted.compares == "choice":
        what = f"{reached:.2%} of the choices are those of float32"
    else:
        what = f"the cosine of the features to those of float32 goes down to {reached:.4f}"
    return f"{wanted.model.name}: in bfloat16 on {device} {what} on sample images; at least {THRESHOLD} is needed"
