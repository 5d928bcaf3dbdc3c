"""How do pixels of any kind become 8-bit sRGB? Profiles by LittleCMS, wide values scaled, transparency on a colour."""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

Rgb = tuple[int, int, int]
_BLOCK_VALUES = 1 << 20  # that are worked on at a time: the wider numbers of a large image would take gigabytes
# What reading a profile raises: it comes from the file
_PROFILE_ERRORS = (ImageCms.PyCMSError, OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError)


def to_srgb(image: Image.Image, profile: bytes | None, background: Rgb) -> Image.Image:
    """As "RGB". A broken `profile`, or one for other channels than the image has, is as good as none: sRGB.

    Transparent pixels lie on `background`, which is sRGB. Wide greys are scaled as `to_uint8` does.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(to_uint8(np.asarray(image)))
    if not image.has_transparency_data:
        return _converted(image, profile)
    grey = image.mode in {"LA", "La", "L"} and not isinstance(image.info.get("transparency"), tuple)
    clear = image.convert("LA" if image.mode == "La" else "RGBA") if image.mode != "LA" else image
    alpha = clear.getchannel("A")
    opaque = clear.convert("RGB")
    colours = _converted(opaque.getchannel(0) if grey and profile else opaque, profile)
    colours.putalpha(alpha)
    below = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(below, colours).convert("RGB")


def _converted(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode in {"P", "PA", "YCbCr", "RGBX"}:
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode == "LAB":
        return _by_profile(image, lambda: ImageCms.createProfile("LAB")) or image.getchannel(0).convert("RGB")
    if profile:
        converted = _by_profile(image, lambda: ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        if converted is not None:
            return converted
    return image if image.mode == "RGB" else image.convert("RGB")  # convert would copy


def _by_profile(image: Image.Image, source: Callable[[], object]) -> Image.Image | None:
    try:
        return ImageCms.profileToProfile(
            image,
            source(),  # type: ignore[arg-type]  # Pillow's stubs say less than it takes
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
            # its tables are coarse otherwise: a linear grey of 5 would be 31 and not 38
            flags=ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else ImageCms.Flags.NONE,
        )
    except _PROFILE_ERRORS:
        return None


def to_uint8(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Map wide values to 0..255 over the smallest usual range that holds them all, so that none is clipped.

    uint16: 0..65535 always. Other integers and floats: 0..1 (floats only), 0..255 or 0..65535, else from minimum to
    maximum. Floats that are a little above 1, below 2: from 0 to maximum, for over 0..255 they would all be black. What
    is no finite number is 0. uint8 stays.
    """
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    low, high = (0.0, 65535.0) if values.dtype == np.uint16 else _range(values)
    scale = 255.0 / max(high - low, 1e-300)
    scaled = np.empty(values.shape, np.uint8)
    for rows in _blocks(values):
        scaled[rows] = np.rint((_finite(values[rows]) - low) * scale)
    return scaled


def _range(values: npt.NDArray[np.generic]) -> tuple[float, float]:
    ends = [(part.min(), part.max()) for part in (_finite(values[rows]) for rows in _blocks(values))]
    low, high = float(min(least for least, _ in ends)), float(max(most for _, most in ends))
    if low >= 0 and 1 < high < 2 and values.dtype.kind == "f":
        return 0.0, high
    if low >= 0 and high <= 65535:
        tops = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
        return 0.0, next(top for top in tops if high <= top)
    return low, high


def _blocks(values: npt.NDArray[np.generic]) -> list[slice]:
    rows = max(1, _BLOCK_VALUES * len(values) // max(1, values.size))
    return [slice(start, start + rows) for start in range(0, len(values), rows)]


def _finite(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    wide = values.astype(np.float64)
    if values.dtype.kind == "f":
        wide[~np.isfinite(wide)] = 0.0
        # the difference of two of the largest floats is none
        np.clip(wide, -1e300, 1e300, out=wide)
    return wide
