"""How is the anomaly detector made? Features that tell materials apart, and a memory of normal brick, grass and gravel.

The features are fitted without any defect, after CutPaste (Li et al., CVPR 2021): they learn to find rectangles that
were cut from the training photographs and texture halves and pasted into normal crops.
"""

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional

from winnow_jobs.demo import fitting, textures
from winnow_jobs.demo.sources import TEXTURES, PixelsRGB, pictures
from winnow_workers.models import patchcore
from winnow_workers.models.model_file import ModelCard, Preprocessing

ARCHITECTURE = "builtin/patch_features"
ARGUMENTS = {"width": 16}
PREPROCESSING = Preprocessing(height_px=96, width_px=96)
_GROUP = 103
_PASTED = 400
_BATCH = 12
_STEPS = 200
_NORMAL_CROPS = 40  # per texture, in the memory bank
_HELD_OUT_CROPS = 40  # per texture, for the threshold
_PATCHES_PER_CROP = 128
_BANK = 1500


def train(seed: int) -> bytes:
    """The model file. Its threshold is the 99 % quantile of the distances of normal crops that are not in the bank."""
    backbone = patchcore.build_backbone(ARCHITECTURE, ARGUMENTS, seed=seed)
    _fit_features(backbone, seed)
    rng = np.random.default_rng([seed, _GROUP, 1])
    with torch.inference_mode():
        remembered = [
            vectors[torch.from_numpy(rng.permutation(len(vectors))[:_PATCHES_PER_CROP])]
            for features in backbone(_normal_crops(rng, count=_NORMAL_CROPS))
            for vectors in [patchcore.patch_vectors(features.unsqueeze(0))]
        ]
        bank = patchcore.fit_memory_bank(torch.cat(remembered), size=_BANK, seed=seed)
        distances = [
            patchcore.image_distance(patchcore.distance_map(features, bank).numpy())
            for features in backbone(_normal_crops(rng, count=_HELD_OUT_CROPS))
        ]
    card = ModelCard(
        architecture=ARCHITECTURE,
        arguments=ARGUMENTS,
        preprocessing=PREPROCESSING,
        trained_on="normal crops of scikit-image's brick, grass and gravel",
    )
    threshold = round(float(np.quantile(distances, 0.99)), 6)
    return patchcore.encode_detector(backbone, bank, card=card, threshold=threshold)


def _normal_crops(rng: np.random.Generator, *, count: int) -> Tensor:
    crops = [textures.crop(name, rng, part="training") for name in TEXTURES for _ in range(count)]
    return fitting.stack(crops, PREPROCESSING)


def _fit_features(backbone: nn.Module, seed: int) -> None:
    """Train the backbone, with a linear head that is thrown away, to find what was pasted into a texture."""
    rng = np.random.default_rng([seed, _GROUP, 0])
    pasted = [_pasted(rng) for _ in range(_PASTED)]
    images = fitting.stack([pixels for pixels, _ in pasted], PREPROCESSING)
    covers = torch.from_numpy(np.stack([cover for _, cover in pasted])).unsqueeze(1)
    with torch.inference_mode():
        channels, rows, columns = backbone(images[:1]).shape[1:]
    whole = nn.Sequential(backbone, nn.Conv2d(channels, 1, 1))
    targets = functional.adaptive_max_pool2d(covers, (rows, columns))

    def loss_of_step(_step: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(images), size=_BATCH))
        return functional.binary_cross_entropy_with_logits(whole(images[chosen]), targets[chosen])

    fitting.fit(whole, loss_of_step, steps=_STEPS, rate=5e-3)


def _pasted(rng: np.random.Generator) -> tuple[PixelsRGB, npt.NDArray[np.float32]]:
    """A normal crop in the model's size with one to three strips or tiles pasted in, and where they are (0 or 1)."""
    side_px = PREPROCESSING.height_px
    crop = textures.crop(TEXTURES[rng.integers(len(TEXTURES))], rng, part="training")
    pixels = np.asarray(Image.fromarray(crop).resize((side_px, side_px), Image.Resampling.BILINEAR))
    cover = np.zeros((side_px, side_px), dtype=np.bool_)
    sources = [*pictures("training"), crop]
    for _ in range(int(rng.integers(1, 4))):
        tile = _tile(rng, side_px)
        piece = _piece(sources[rng.integers(len(sources))], rng, side_px=side_px)
        pixels = np.where(tile[..., None], piece, pixels)
        cover |= tile
    return pixels, cover.astype(np.float32)


def _tile(rng: np.random.Generator, side_px: int) -> npt.NDArray[np.bool_]:
    """A rectangle at any angle: half of them long and thin."""
    x, y = rng.uniform(0.1 * side_px, 0.9 * side_px, size=2)
    turn = rng.uniform(0, np.pi)
    slender = rng.random() < 0.5
    reach_px = side_px * (rng.uniform(0.1, 0.3) if slender else rng.uniform(0.04, 0.12))
    half_px = side_px * (rng.uniform(0.01, 0.03) if slender else rng.uniform(0.04, 0.12))
    along = np.array([np.cos(turn), np.sin(turn)]) * reach_px
    across = np.array([-np.sin(turn), np.cos(turn)]) * half_px
    corners = [along + across, along - across, -along - across, across - along]
    stencil = Image.new("L", (side_px, side_px), 0)
    ImageDraw.Draw(stencil).polygon([(x + dx, y + dy) for dx, dy in corners], fill=255)
    return np.asarray(stencil) > 127


def _piece(source: PixelsRGB, rng: np.random.Generator, *, side_px: int) -> PixelsRGB:
    """A piece of a source, (side, side, 3): of any contrast and lightness, half of them grey, half of them smooth."""
    crop_px = int(min(source.shape[:2]) * rng.uniform(0.4, 0.95))
    top_px, left_px = (int(rng.integers(0, extent - crop_px)) for extent in source.shape[:2])
    window = Image.fromarray(source[top_px : top_px + crop_px, left_px : left_px + crop_px])
    if rng.random() < 0.5:
        window = window.resize((12, 12), Image.Resampling.BOX)
    piece = np.asarray(window.resize((side_px, side_px), Image.Resampling.BILINEAR), dtype=np.float64)
    if rng.random() < 0.5:
        piece = np.repeat(piece.mean(axis=2, keepdims=True), 3, axis=2)
    lit = (piece - piece.mean()) * rng.uniform(0.0, 1.3) + piece.mean() + rng.uniform(-70, 70)
    return np.asarray(np.clip(lit, 0, 255), dtype=np.uint8)
