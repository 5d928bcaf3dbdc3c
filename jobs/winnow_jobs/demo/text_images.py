"""What is there to read? Receipts, labels, notices and letters, set in the font that Pillow bundles."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from winnow_jobs.demo.image_files import KINDS, encode
from winnow_jobs.demo.sample import Sample, Samples, Truth
from winnow_jobs.demo.sources import PixelsRGB

_GROUP = 5
_COUNT = 40
_SPOILED_EVERY = 8
_KINDS = ("png_grey", "jpeg", "png", "jpeg_progressive", "webp", "tiff", "jpeg_turned_left", "jpeg_cmyk", "png_alpha")
_GOODS = (
    "Apple juice", "Brown bread", "Coffee beans", "Dried figs", "Egg noodles", "Fresh basil", "Green lentils",
    "Honey jar", "Iced tea", "Jasmine rice", "Kitchen towel", "Lemon soap", "Maple syrup", "Olive oil", "Potatoes",
    "Rolled oats", "Sea salt", "Tomato paste", "Vanilla sugar", "White beans",
)  # fmt: skip
_PLACES = ("Harbour Street", "Mill Lane", "Station Road", "Market Square", "Orchard Way", "Bridge Street", "North Quay")
_NAMES = ("Amara Stone", "Bruno Keller", "Clara Hughes", "David Moreau", "Elena Rossi", "Felix Brandt", "Greta Larsen")
_SENTENCES = (
    "The delivery arrived two days early and every box was dry.",
    "Please keep this side up and store below twenty degrees.",
    "Our shop is closed on Monday because of the summer fair.",
    "The last train to the coast leaves from platform seven.",
    "Visitors are asked to leave their bags at the front desk.",
    "Tickets that were bought online can be shown on a phone.",
    "The new reading room opens at nine and has forty seats.",
    "Fresh paint on the handrail, use the other staircase.",
    "A second inspection is planned for the end of the month.",
    "Water was switched off between ten and half past eleven.",
    "We thank everybody who helped to plant the young trees.",
    "The lost umbrella can be picked up at the ticket office.",
)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """Lines to set, and how: `size_px` is the height of the type, `margin_px` the paper around it."""

    lines: tuple[str, ...]
    size_px: int
    margin_px: int


def samples(seed: int) -> Samples:
    """Forty sheets; every eighth is spoiled (blur, noise, pale ink) and its truth is not `clean`."""
    for number in range(_COUNT):
        rng = np.random.default_rng([seed, _GROUP, number])
        clean = number % _SPOILED_EVERY != _SPOILED_EVERY - 1
        kind_of_sheet, compose = tuple(_SHEETS.items())[number % len(_SHEETS)]
        sheet = compose(rng)
        kind = KINDS[_KINDS[number % len(_KINDS)]]
        truth = Truth(operator="ocr", clean=clean, text="\n".join(sheet.lines))
        pixels = _set(sheet, rng, spoiled=not clean)
        yield Sample(f"text/{kind_of_sheet}_{number:02d}.{kind.suffix}", encode(pixels, kind), truth)


def _set(sheet: _Sheet, rng: np.random.Generator, *, spoiled: bool) -> PixelsRGB:
    """The sheet as a picture: ink on tinted paper under uneven light, with the grain of a camera."""
    font = ImageFont.load_default(size=sheet.size_px)
    leading_px = int(sheet.size_px * rng.uniform(1.45, 1.8))
    width_px = max(200, int(max(font.getlength(line) for line in sheet.lines)) + 2 * sheet.margin_px)
    height_px = max(200, leading_px * len(sheet.lines) + 2 * sheet.margin_px)
    stencil = Image.new("L", (width_px, height_px), 0)
    pen = ImageDraw.Draw(stencil)
    for row, line in enumerate(sheet.lines):
        pen.text((sheet.margin_px, sheet.margin_px + row * leading_px), line, fill=255, font=font)
    if spoiled:
        stencil = stencil.filter(ImageFilter.GaussianBlur(sheet.size_px / rng.uniform(12, 20)))
    paper = rng.uniform(215, 252) + rng.uniform(-14, 3, size=3)
    ink = paper - rng.uniform(60, 110) if spoiled else rng.uniform(0, 70, size=3)
    light = np.linspace(0, -rng.uniform(0, 25), width_px)[None, :, None] + np.zeros((height_px, 1, 1))
    cover = np.asarray(stencil, dtype=np.float32)[..., None] / 255.0
    grain = rng.normal(0.0, rng.uniform(12, 20) if spoiled else rng.uniform(0.5, 5), size=(height_px, width_px))
    picture = (paper + light) * (1 - cover) + ink * cover + grain[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def _receipt(rng: np.random.Generator) -> _Sheet:
    goods = rng.permutation(len(_GOODS))[: int(rng.integers(3, 8))]
    cents = rng.integers(120, 1900, size=len(goods))
    items = tuple(f"{_GOODS[good]} {price / 100:.2f}" for good, price in zip(goods, cents, strict=True))
    head = (f"Corner shop {rng.choice(_PLACES)}", f"Date {_date(rng)}")
    tail = (f"Total {cents.sum() / 100:.2f}", "Thank you for your visit")
    return _Sheet((*head, *items, *tail), size_px=int(rng.integers(22, 34)), margin_px=int(rng.integers(24, 60)))


def _label(rng: np.random.Generator) -> _Sheet:
    lines = (
        str(rng.choice(_NAMES)),
        f"{rng.integers(2, 180)} {rng.choice(_PLACES)}",
        f"Parcel {rng.integers(10_000, 99_999)} of {_date(rng)}",
        f"Weight {rng.integers(1, 30)}.{rng.integers(0, 10)} kg",
    )
    return _Sheet(lines, size_px=int(rng.integers(26, 44)), margin_px=int(rng.integers(30, 70)))


def _notice(rng: np.random.Generator) -> _Sheet:
    sentence = str(rng.choice(_SENTENCES))
    words = sentence.split()
    lines = ("NOTICE", *_wrapped(words, width=20))
    return _Sheet(lines, size_px=int(rng.integers(40, 72)), margin_px=int(rng.integers(40, 110)))


def _letter(rng: np.random.Generator) -> _Sheet:
    sentences = rng.permutation(len(_SENTENCES))[: int(rng.integers(3, 7))]
    words = " ".join(_SENTENCES[index] for index in sentences).split()
    opening, closing = f"Dear {rng.choice(_NAMES)},", "With kind regards"
    lines = (opening, *_wrapped(words, width=42), closing, str(rng.choice(_NAMES)))
    return _Sheet(lines, size_px=int(rng.integers(22, 32)), margin_px=int(rng.integers(50, 120)))


def _scan(rng: np.random.Generator) -> _Sheet:
    """A page at the resolution of a scanner: one to three megapixels."""
    letter = _letter(rng)
    return _Sheet(letter.lines, size_px=int(rng.integers(44, 64)), margin_px=int(rng.integers(120, 240)))


def _wrapped(words: list[str], *, width: int) -> tuple[str, ...]:
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return tuple(lines)


def _date(rng: np.random.Generator) -> str:
    return f"2025-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"


_SHEETS: dict[str, Callable[[np.random.Generator], _Sheet]] = {
    "receipt": _receipt,
    "label": _label,
    "notice": _notice,
    "letter": _letter,
    "scan": _scan,
}
