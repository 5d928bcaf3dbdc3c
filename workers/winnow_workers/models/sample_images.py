"""On what is a network tried before it sees the corpus? On images that are drawn here, the same ones everywhere."""

import cv2
import numpy as np
import numpy.typing as npt

_SEED = 20261126
_SIDE_PX = 256
_GRIDS = (2, 5, 16, 64, 256)  # cells a side; coarse ones weigh more, as in photographs


def sample_images(count: int) -> list[npt.NDArray[np.uint8]]:
    """The first `count` images (256, 256, 3), uint8: coloured fields of every fineness under some flat shapes."""
    rng = np.random.default_rng(_SEED)
    return [_image(rng) for _ in range(count)]


def _image(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    field = np.zeros((_SIDE_PX, _SIDE_PX, 3))
    for grid in _GRIDS:
        noise = rng.standard_normal((grid, grid, 3))
        field += cv2.resize(noise, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_LINEAR) / np.sqrt(grid)
    values = np.clip(rng.uniform(60, 190) + rng.uniform(20, 70) * field, 0, 255)
    pixels: npt.NDArray[np.uint8] = values.astype(np.uint8)
    for _ in range(int(rng.integers(0, 6))):
        left, top, width, height = (int(one) for one in rng.integers(8, _SIDE_PX // 2, 4))
        pixels[top : top + height, left : left + width] = rng.integers(0, 256, 3, dtype=np.uint8)
    return pixels
