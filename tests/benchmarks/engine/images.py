"""JPEGs of 800 x 600 px to measure on: crops of the photographs that scikit-image and scikit-learn ship."""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images

WIDTH_PX, HEIGHT_PX = 800, 600
DIFFERENT = 200  # files beyond that are copies under other names: the decoder does not know


def jpegs(folder: Path, count: int) -> list[Path]:
    """`count` files, JPEG quality 90, chroma at half resolution."""
    sources = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), *load_sample_images().images]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    made: list[Path] = []
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if number >= DIFFERENT:
            path.write_bytes(made[number % DIFFERENT].read_bytes())
        else:
            source = Image.fromarray(sources[number % len(sources)])
            part = rng.uniform(0.5, 1.0)
            width, height = source.width * part, source.width * part * HEIGHT_PX / WIDTH_PX
            height = min(height, source.height)
            left, top = rng.uniform(0, source.width - width), rng.uniform(0, source.height - height)
            box = (left, top, left + width, top + height)
            source.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC, box).save(path, quality=90)
        made.append(path)
    return made
