"""What may an image cost, and which formats are taken? Decided by its headers, before anything is decoded."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from winnow_workers.signals import Rejected

Format = Literal["jpeg", "png", "webp", "tiff", "gif", "bmp", "avif", "pdf"]
FORMATS: tuple[Format, ...] = ("jpeg", "png", "webp", "tiff", "gif", "bmp", "avif", "pdf")

JpegDecoder = Literal["cpu", "gpu", "auto"]

# Smaller images are no danger, whatever their ratio: a plain colour of 10 megapixels has every right to be a short file
RATIO_FROM_BYTES = 32 << 20


class DecodeLimits(BaseModel):
    """What an image may claim; over a limit it is rejected before it is decoded.

    `max_frames` binds animations (of which the first frame is taken) and pages of a TIFF, `max_scans` the passes over
    a progressive JPEG, `max_metadata_bytes` profile, EXIF and text together as they are once unpacked, `max_ratio` the
    bytes of the pixels as stored (not as RGB) for each byte of the file, from 32 MiB of pixels on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    formats: tuple[Format, ...] = Field(default=FORMATS, min_length=1)
    max_bytes: int = Field(default=256 * 2**20, gt=0)
    max_pixels: int = Field(default=100_000_000, gt=0)
    max_frames: int = Field(default=10_000, gt=0)
    max_scans: int = Field(default=500, gt=0)
    max_metadata_bytes: int = Field(default=32 * 2**20, gt=0)
    max_ratio: float = Field(default=10_000, gt=0)


class DecodeSettings(BaseModel):
    """What decides pixels where a file leaves it open: the colour that shows through transparency, as "#rrggbb".

    `jpeg` is who decodes usual JPEGs: the CPU, a GPU (whose pixels are a little other), or, with `auto`, a GPU where
    there is one that decodes alike.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    background: Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$"), AfterValidator(str.lower)] = "#ffffff"
    # left out at its default: documents and digests of before it existed keep theirs
    jpeg: JpegDecoder = Field(default="cpu", exclude_if=lambda value: value == "cpu")

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """0 to 255 each."""
        red, green, blue = bytes.fromhex(self.background[1:])
        return red, green, blue


WHITE = DecodeSettings()


@dataclass(frozen=True, slots=True)
class Claim:
    """What a file says of itself before it is decoded; None and 0 where it does not say.

    `frames` stops being counted one above the limit, `circle` says why they would never end. `metadata_bytes` is what
    profile, EXIF and text take once they are unpacked, `bits_per_pixel` what a pixel takes as it is stored.
    """

    width_px: int = 0
    height_px: int = 0
    bits_per_pixel: int = 0
    frames: int = 1
    scans: int = 1
    metadata_bytes: int = 0
    circle: str | None = None


def check_bytes(size_bytes: int, limits: DecodeLimits, whose: str = "") -> None:
    """Raises:
    Rejected: the file is larger than it may be.
    """
    if size_bytes > limits.max_bytes:
        raise Rejected(f"{whose}{size_bytes} bytes, over the limit of {limits.max_bytes} (limits.max_bytes)")


def check_format(name: str, limits: DecodeLimits) -> None:
    """Raises:
    Rejected: the job does not take this format.
    """
    if name not in limits.formats:
        raise Rejected(f"a {name} file, and the job takes only {', '.join(limits.formats)} (limits.formats)")


def check_pixels(width_px: int, height_px: int, limits: DecodeLimits, where: str = "by its header") -> None:
    """Raises:
    Rejected: so many pixels are more than there may be.
    """
    if width_px * height_px > limits.max_pixels:
        raise Rejected(
            f"{width_px} x {height_px} px {where}, over the limit of {limits.max_pixels} pixels (limits.max_pixels)"
        )


def check_claim(claim: Claim, size_bytes: int, limits: DecodeLimits) -> None:
    """Hold a claim of a file of `size_bytes` against the limits.

    Raises:
        Rejected: it is over one of them, which is named.
    """
    check_pixels(claim.width_px, claim.height_px, limits)
    if claim.circle is not None:
        raise Rejected(f"{claim.circle}, over the limit of {limits.max_frames} frames (limits.max_frames)")
    if claim.frames > limits.max_frames:
        raise Rejected(f"more than {limits.max_frames} frames, which is the limit (limits.max_frames)")
    if claim.scans > limits.max_scans:
        raise Rejected(f"{claim.scans} scans, over the limit of {limits.max_scans} (limits.max_scans)")
    if claim.metadata_bytes > limits.max_metadata_bytes:
        raise Rejected(
            f"at least {claim.metadata_bytes} bytes of profile, EXIF and text, over the limit of "
            f"{limits.max_metadata_bytes} (limits.max_metadata_bytes)"
        )
    pixel_bytes = claim.width_px * claim.height_px * claim.bits_per_pixel // 8
    if is_bomb(pixel_bytes, size_bytes, limits):
        raise Rejected(
            f"{pixel_bytes} bytes of pixels out of {size_bytes}, over the limit of {limits.max_ratio:g} to one "
            "(limits.max_ratio)"
        )


def is_bomb(pixel_bytes: int, size_bytes: int, limits: DecodeLimits) -> bool:
    """Whether a file is packed more tightly than it may be."""
    return pixel_bytes > RATIO_FROM_BYTES and pixel_bytes > limits.max_ratio * size_bytes
