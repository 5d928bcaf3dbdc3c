"""What is there to read in tests? Pages set in the font that Pillow bundles, with their text."""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_WORDS = (
    *("harvest", "meadow", "river", "stone", "garden", "window", "winter", "market", "bridge", "candle", "summer"),
    *("letter", "orange", "button", "silver", "pocket", "ladder", "basket", "kitchen", "morning", "travel", "number"),
    *("paper", "forest", "island", "journey", "lantern", "mirror", "needle", "anchor", "blanket"),
)


@functools.cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)


def sentence(rng: np.random.Generator, words: int) -> str:
    """Words, numbers and punctuation."""
    chosen = [str(word) for word in rng.choice(_WORDS, size=words)]
    chosen[int(rng.integers(words))] = f"{rng.integers(1, 9999)}"
    return " ".join(chosen).capitalize() + "."


def printed(lines: list[str], *, size_px: int = 28, width: int = 640, margin_px: int = 30) -> np.ndarray:
    """A clean page, (height, width, 3) uint8: black on white."""
    step = round(size_px * 1.6)
    image = Image.new("RGB", (width, 2 * margin_px + step * len(lines)), "white")
    draw = ImageDraw.Draw(image)
    for index, line in enumerate(lines):
        draw.text((margin_px, margin_px + step * index), line, font=_font(size_px), fill="black")
    return np.array(image)


def page(seed: int, *, lines: int = 4, words: int = 5) -> tuple[np.ndarray, str]:
    """A page of clean print and its text."""
    rng = np.random.default_rng([seed, 11])
    text = [sentence(rng, words) for _ in range(lines)]
    size_px = int(rng.integers(20, 30))
    width = int(max(_font(size_px).getlength(line) for line in text)) + 60
    return printed(text, size_px=size_px, width=width), "\n".join(text)


def two_columns(left: list[str], right: list[str], *, size_px: int = 22) -> np.ndarray:
    """Two columns of equal leading, a clear gap between."""
    sides = [printed(side, size_px=size_px, width=460) for side in (left, right)]
    height = max(side.shape[0] for side in sides)
    sheet = np.full((height, 920, 3), 255, np.uint8)
    for number, side in enumerate(sides):
        sheet[: side.shape[0], number * 460 : (number + 1) * 460] = side
    return sheet
