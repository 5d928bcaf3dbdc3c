"""How is an anomaly detector made from normal images alone? Features, a head on some of them, a threshold from others.

The images are shuffled by the seed and cut in two. On the first part the head is fitted; the distances of the second,
which it has never seen, give the threshold and every later p-value. Both are taken through the very batches that the
operator uses, so a held-out image has the same distance here and in a run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from winnow_storage.errors import ModelError
from winnow_workers.models import conformal, patchcore
from winnow_workers.models.anomaly_head import HELD_OUT, Head, MemoryBank
from winnow_workers.models.architectures import default_preprocessing
from winnow_workers.models.build import fill, open_weights
from winnow_workers.models.fixed_batch import FixedBatch
from winnow_workers.models.folder import local_folder, read_config
from winnow_workers.models.model_file import ModelCard, Preprocessing, encode_model
from winnow_workers.models.padim import fit_gaussians
from winnow_workers.models.preprocess import needed_side_px, to_tensor
from winnow_workers.models.published import usual_input
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.transformers_model import open_transformers
from winnow_workers.operator import PixelsHWC, View
from winnow_workers.operators.anomaly import inside

if TYPE_CHECKING:
    import torch
    from torch import nn

LEAST_IMAGES = 10
_SEEN_PATCHES = 20_000  # of all images together, from which the memory bank is chosen

Read = Callable[[int, int], PixelsHWC]  # the pixels of the image of that number, scaled to no less than that side


@dataclass(frozen=True, slots=True)
class AnomalyFit:
    """How a detector is fitted. `side_px` None takes the backbone's own input, stretched to see the whole image."""

    method: Literal["patchcore", "padim"] = "patchcore"
    layers: tuple[str, ...] = ()
    side_px: int | None = None
    false_alarms: float = 0.01  # of normal images, at the threshold
    held_out: float = 0.3  # share of the images
    bank: int = 2000  # patches that PatchCore remembers
    features: int = 100  # channels that PaDiM looks at
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FittedDetector:
    """A detector's file, its card, and the distances of the held-out images, sorted."""

    data: bytes
    card: ModelCard
    held_out: conformal.Scores


@dataclass(frozen=True, slots=True)
class _Backbone:
    module: "nn.Module"
    architecture: str
    arguments: Mapping[str, Any]
    given: Preprocessing


def fit_detector(
    model: ResolvedModel, count: int, read: Read, fit: AnomalyFit, *, device: str = "cpu"
) -> FittedDetector:
    """Fit a detector on `count` normal images over the backbone `model`.

    Raises:
        ModelError: too few images, or a backbone that cannot be used.
    """
    if count < LEAST_IMAGES:
        raise ModelError(
            f"{count} normal images are too few for a detector", hint=f"give {LEAST_IMAGES} at least, better hundreds"
        )
    backbone = _open_backbone(model, fit)
    tensors = {
        patchcore.BACKBONE_PREFIX + name: one.detach().cpu().clone()
        for name, one in backbone.module.state_dict().items()
    }
    order = np.random.default_rng(fit.seed).permutation(count)
    kept_out = min(count - 2, max(1, round(count * fit.held_out)))
    batch = FixedBatch(backbone.module.eval().to(device), device)
    head = _fit_head(_features(batch, backbone.given, order[kept_out:], read), fit, images=count - kept_out)
    held_out = np.sort(
        [
            patchcore.image_distance(inside(head.distance_map(one).numpy(), _view(pixels), backbone.given))
            for one, pixels in _features(batch, backbone.given, order[:kept_out], read)
        ]
    ).astype(np.float64)
    threshold = conformal.threshold(held_out, fit.false_alarms)
    if not np.isfinite(held_out).all() or threshold <= 0:
        raise ModelError(
            f"the held-out images have distances from {held_out[0]:g} to {held_out[-1]:g}: nothing can be told apart",
            hint="give images that differ, or another backbone",
        )
    card = _card(backbone, fit, threshold, fitted_on=count - kept_out, kept_out=kept_out)
    tensors |= {**head.tensors(), HELD_OUT: _tensor(held_out)}
    return FittedDetector(encode_model(tensors, card), card, held_out)


def _open_backbone(model: ResolvedModel, fit: AnomalyFit) -> _Backbone:
    layers = list(fit.layers) or None
    if model.weights.kind == "folder":
        opened = open_transformers(model, "embed", device="cpu")
        config = read_config((local_folder(model) / "config.json").read_bytes(), where=model.name)
        arguments: dict[str, Any] = {"config": config}
        architecture = f"transformers/{config.get('model_type')}"
        module = patchcore.build_backbone(architecture, arguments, layers=layers)
        given = opened.preprocessing or Preprocessing(height_px=224, width_px=224)
        tensors: Mapping[str, torch.Tensor] = opened.module.state_dict()
    else:
        loaded = open_weights(model)
        arguments = dict(loaded.card.arguments) if loaded.card else {}
        architecture = model.architecture or (loaded.card.architecture if loaded.card else "")
        module = patchcore.build_backbone(architecture, arguments, layers=layers, seed=model.weights.seed or 0)
        known = loaded.card.preprocessing if loaded.card else None
        is_random = model.weights.kind == "random"
        given = known or (default_preprocessing(architecture) if is_random else usual_input(architecture, arguments))
        tensors = loaded.tensors
    if model.weights.kind != "random":
        fill(module, _matching(module, tensors), where=f"the backbone {architecture}")
    side = {} if fit.side_px is None else {"height_px": fit.side_px, "width_px": fit.side_px}
    fit_all = "pad" if given.fit == "pad" else "stretch"
    fitting = given.model_copy(update={"fit": fit_all, "resize_px": None, **side})
    return _Backbone(module, architecture, arguments, fitting)


def _matching(module: "nn.Module", tensors: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """The tensors of a whole network that its feature extractor still has, by the extractor's names.

    What the extractor does not use (the head, later stages) is left out; what it uses and the file lacks is then
    missed by name.
    """
    found = {}
    for name in module.state_dict():
        for plain in (name, name.removeprefix("levels."), name.removeprefix("levels.network."), _unflat(name)):
            if plain in tensors:
                found[name] = tensors[plain]
                break
    return found


def _unflat(name: str) -> str:
    """How timm's extractors flatten "stages.0.x" to "stages_0.x", undone."""
    first, _, rest = name.removeprefix("levels.").partition(".")
    stem, separator, number = first.rpartition("_")
    return f"{stem}.{number}.{rest}" if separator and number.isdigit() else name


def _features(
    batch: FixedBatch, given: Preprocessing, numbers: Sequence[int] | Any, read: Read
) -> "Iterator[tuple[torch.Tensor, PixelsHWC]]":
    """The (c, rows, columns) map of each image with its pixels, a batch in memory at a time."""
    side_px = needed_side_px(given)
    for start in range(0, len(numbers), batch.size):
        pixels = [read(int(number), side_px) for number in numbers[start : start + batch.size]]
        yield from zip(batch([to_tensor(one, given) for one in pixels]), pixels, strict=True)


def _fit_head(maps: "Iterator[tuple[torch.Tensor, PixelsHWC]]", fit: AnomalyFit, *, images: int) -> Head:
    import torch

    if fit.method == "padim":
        return fit_gaussians((one for one, _ in maps), features=fit.features, seed=fit.seed)
    generator = torch.Generator().manual_seed(fit.seed)
    each = max(1, -(-_SEEN_PATCHES // images))
    seen = []
    for one, _ in maps:
        vectors = patchcore.patch_vectors(one.unsqueeze(0))
        seen.append(vectors[torch.randperm(len(vectors), generator=generator)[:each]].clone())
    return MemoryBank(patchcore.fit_memory_bank(torch.cat(seen), size=fit.bank, seed=fit.seed))


def _card(backbone: _Backbone, fit: AnomalyFit, threshold: float, *, fitted_on: int, kept_out: int) -> ModelCard:
    layers = [int(layer) if layer.lstrip("-").isdigit() else layer for layer in fit.layers]
    return ModelCard(
        architecture=backbone.architecture,
        arguments=backbone.arguments,
        preprocessing=backbone.given,
        extra={
            "method": fit.method,
            "threshold": threshold,
            "false_alarms": max(fit.false_alarms, conformal.least_false_alarms(kept_out)),
            "held_out": kept_out,
            "seed": fit.seed,
            **({"layers": layers} if layers else {}),
        },
        trained_on=f"{fitted_on} normal images, {kept_out} more held out",
    )


def _tensor(values: conformal.Scores) -> "torch.Tensor":
    import torch

    return torch.from_numpy(values)


def _view(pixels: PixelsHWC) -> View:
    return View(pixels, pixels.shape[1], pixels.shape[0])
