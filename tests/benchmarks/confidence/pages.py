"""What is to be read? One to three printed lines under damage, through the operator `ocr` with each of its engines.

Every page has a damage of its own: most have little, some are ruined. Damage is blur, grain and pale ink. Corrupted:
a third of the contrast before the damage.
"""

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.benchmarks.confidence.hard import Answers, Hard, Part, judged, structs_of
from tests.workers.operators.making import opened
from tests.workers.text.pages import sentence
from winnow_storage.errors import ModelError
from winnow_workers.models.tesseract_data import TESSERACT, tesseract_digest

COUNTS: dict[Part, int] = {"calibrate": 1000, "held out": 2000, "corrupted": 600}
SEEDS: dict[Part, int] = {"calibrate": 1, "held out": 2, "corrupted": 2}
CORRUPTED_CONTRAST = 1 / 3
# by engine; rapidocr has one step: its reading takes most of the time of the benchmark
LADDERS = {"builtin/rapidocr": (0.5,), TESSERACT: (0.15, 0.2, 0.25)}
_RARITY = 3.0
_BLUR_PX = 4.0  # standard deviations at damage 1
_GRAIN = 130.0
_PROCESSES = 2


def page(seed: int, number: int, strongest: float, *, contrast: float) -> tuple[npt.NDArray[np.uint8], str]:
    """(height, width, 3) and its lines."""
    rng = np.random.default_rng([seed, number])
    lines = [sentence(rng, int(rng.integers(1, 3))) for _ in range(int(rng.integers(1, 4)))]
    size_px = int(rng.integers(18, 28))
    font = ImageFont.load_default(size=size_px)
    width_px = int(max(font.getlength(line) for line in lines)) + 2 * size_px
    image = Image.new("L", (width_px, round(size_px * (1.5 * len(lines) + 1))), 0)
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        draw.text((size_px, size_px * (0.5 + 1.5 * row)), line, font=font, fill=255)
    damage = strongest * rng.uniform() ** _RARITY
    ink = image.filter(ImageFilter.GaussianBlur(_BLUR_PX * damage * rng.uniform()))
    depth = rng.uniform(120, 220) * (1 - 0.5 * min(1.0, damage) * rng.uniform())
    picture = rng.uniform(215, 250) - depth * np.asarray(ink, np.float64) / 255
    picture = 128 + contrast * (picture - 128) + rng.normal(size=picture.shape) * _GRAIN * damage
    grey = np.clip(picture, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), "\n".join(lines)


def _read(
    engine: str, some: Sequence[tuple[int, int]], strongest: float, contrast: float
) -> list[tuple[dict[str, Any], str]]:
    operator = opened("ocr", engine)
    pages = [page(seed, number, strongest, contrast=contrast) for seed, number in some]
    structs = structs_of(operator, [pixels for pixels, _ in pages])
    operator.close()
    return list(zip(structs, (text for _, text in pages), strict=True))


def _answers(engine: str, part: Part, strongest: float) -> Answers:
    contrast = CORRUPTED_CONTRAST if part == "corrupted" else 1.0
    numbers = [(SEEDS[part], number) for number in range(COUNTS[part])]
    shares = [numbers[at::_PROCESSES] for at in range(_PROCESSES)]
    with ProcessPoolExecutor(_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_read, engine, one, strongest, contrast) for one in shares]
        read = [one for future in futures for one in future.result()]
    return judged("ocr", [struct for struct, _ in read], [{"full_text": text} for _, text in read])


def tasks() -> list[Hard]:
    """Ocr by each engine that is installed."""
    setup = "pages of one to three printed lines under damage of up to {}"
    return [
        Hard(
            f"ocr ({engine.removeprefix('builtin/')})",
            "ocr",
            setup,
            ladder,
            lambda part, strongest, engine=engine: _answers(engine, part, strongest),  # type: ignore[misc]
        )
        for engine, ladder in LADDERS.items()
        if engine != TESSERACT or has_tesseract()
    ]


def has_tesseract() -> bool:
    """False where it is not installed, which is said."""
    try:
        tesseract_digest(TESSERACT)
    except ModelError as missing:
        sys.stderr.write(f"ocr by Tesseract is left out: {missing.message}; {missing.hint}\n")
        return False
    return True
