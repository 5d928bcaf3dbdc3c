"""How far is a patch from everything normal? Features and a memory bank after PatchCore (Roth et al., CVPR 2022).

A detector's file holds the backbone's tensors under `backbone.`, the bank as `memory_bank` (patches, features), and in
its card the backbone as `architecture`, with `extra`: `threshold`, the image distance at the boundary between normal
and anomalous, and for torchvision and timm backbones optionally `layers`, the nodes or stages whose features are used.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow_storage.errors import ModelError
from winnow_workers.models import libraries
from winnow_workers.models.architectures import check_architecture, split
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.shapes_only import building_on

if TYPE_CHECKING:
    import torch
    from torch import nn

BACKBONE_PREFIX = "backbone."
MEMORY_BANK = "memory_bank"
TOP_PATCHES = 3  # of an image, whose mean distance is the image's: one alone is noise
_TIMM_STAGES = (1, 2)
_TORCHVISION_NODES = ("layer2", "layer3")
_TRANSFORMERS_STATES = (-2,)  # the last one is bent towards what the network was trained to say


def build_backbone(
    architecture: str,
    arguments: Mapping[str, Any],
    *,
    layers: Sequence[str | int] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> "nn.Module":
    """A module from (n, channels, h, w) images to (n, features, rows, columns), weights drawn from `seed`.

    `device` as for `build_network`.

    Raises:
        ModelError: unknown architecture, or layers that it does not have.
    """
    import torch

    from winnow_workers.models.build import build_network
    from winnow_workers.models.nets import PooledLevels

    library, name = split(architecture)
    if library == "transformers":
        with building_on(device):
            return _hidden_maps(arguments, layers, seed)
    check_architecture(architecture)
    if library == "builtin":
        return build_network(architecture, arguments, n_labels=None, seed=seed, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            if library == "timm":
                stages = tuple(int(layer) for layer in layers or _TIMM_STAGES)
                with building_on(device):
                    network = libraries.timm().create_model(
                        name, pretrained=False, features_only=True, out_indices=stages
                    )
                return PooledLevels(network)
            create_feature_extractor = libraries.torchvision().models.feature_extraction.create_feature_extractor
            whole = build_network(architecture, arguments, n_labels=None, seed=seed, device=device)
            nodes = [str(layer) for layer in layers or _TORCHVISION_NODES]
            return PooledLevels(create_feature_extractor(whole.eval(), return_nodes=nodes))
        except (ValueError, AssertionError, IndexError, RuntimeError) as error:
            raise ModelError(
                f"{architecture} has no layers {list(layers or ())} to take features from: {error}",
                hint="name others in the card's extra.layers",
            ) from error


def _hidden_maps(arguments: Mapping[str, Any], layers: Sequence[str | int] | None, seed: int) -> "nn.Module":
    import torch

    from winnow_workers.models.nets import PooledLevels
    from winnow_workers.models.token_maps import HiddenMaps, empty_network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = empty_network(arguments.get("config", {}))
    return PooledLevels(HiddenMaps(network, [int(layer) for layer in layers or _TRANSFORMERS_STATES]))


def patch_vectors(features_nchw: "torch.Tensor") -> "torch.Tensor":
    """(n, c, h, w) feature maps to (n * h * w, c) float32 patches."""
    return features_nchw.permute(0, 2, 3, 1).reshape(-1, features_nchw.shape[1]).float()


def fit_memory_bank(patches: "torch.Tensor", *, size: int, seed: int) -> "torch.Tensor":
    """Choose `size` of the (n, c) patches that cover all of them: greedy k-centre (Sener and Savarese, 2018).

    Distances are taken in a random projection to 64 dimensions (Johnson-Lindenstrauss), as PatchCore does.
    """
    import torch

    if len(patches) <= size:
        return patches.clone()
    generator = torch.Generator().manual_seed(seed)
    seen = patches
    if patches.shape[1] > 64:
        seen = patches @ torch.randn(patches.shape[1], 64, generator=generator) / 8.0
    chosen = [int(torch.randint(len(patches), (1,), generator=generator))]
    nearest = torch.full((len(patches),), torch.inf)
    for _ in range(size - 1):
        nearest = torch.minimum(nearest, (seen - seen[chosen[-1]]).square().sum(dim=1))
        chosen.append(int(nearest.argmax()))
    return patches[torch.tensor(chosen)].clone()


def distance_map(features_chw: "torch.Tensor", bank: "torch.Tensor") -> "torch.Tensor":
    """(rows, columns) Euclidean distance of every patch to its nearest neighbour in the (m, c) bank."""
    rows, columns = features_chw.shape[1:]
    patches = patch_vectors(features_chw.unsqueeze(0))
    # |a - b|^2 = |a|^2 - 2ab + |b|^2 finds the neighbour fast, but cancels digits: fewer around the bank's centre, and
    # the distance itself is taken exactly
    centre = bank.mean(dim=0)
    centred = bank - centre
    nearest = (centred.square().sum(dim=1) - 2.0 * ((patches - centre) @ centred.T)).argmin(dim=1)
    return (patches - bank[nearest]).square().sum(dim=1).sqrt().reshape(rows, columns)


def image_distance(distances: "np.ndarray[Any, np.dtype[np.float32]]") -> float:
    """An image's distance: the mean of its TOP_PATCHES farthest patches."""
    return float(np.sort(distances, axis=None)[-TOP_PATCHES:].mean(dtype=np.float64))


def encode_detector(
    backbone: "nn.Module",
    bank: "torch.Tensor",
    *,
    card: ModelCard,
    threshold: float,
) -> bytes:
    """The model file of a fitted detector; `card` names the backbone's architecture and its preprocessing."""
    tensors = {BACKBONE_PREFIX + name: tensor for name, tensor in backbone.state_dict().items()}
    tensors[MEMORY_BANK] = bank
    extra = {**card.extra, "threshold": threshold}
    return encode_model(tensors, card.model_copy(update={"extra": extra}))


def check_bank(tensors: "Mapping[str, torch.Tensor]", *, where: str) -> "torch.Tensor":
    """The memory bank of a detector's file.

    Raises:
        ModelError: there is none, or it is no matrix.
    """
    bank = tensors.get(MEMORY_BANK)
    if bank is None or bank.ndim != 2 or len(bank) == 0:
        raise ModelError(
            f"{where} holds no tensor {MEMORY_BANK} of (patches, features)",
            hint="an anomaly detector is written by patchcore.encode_detector",
        )
    return bank.float()
