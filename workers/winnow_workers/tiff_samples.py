"""How are the samples of a TIFF read that Pillow has no mode for? Unpacked by libtiff as plain bytes, then by numpy.

Pillow knows 16-bit colour only by its upper byte, and floats, signed, 32- and 64-bit samples in few layouts. libtiff
unpacks all of them, so it is shown the page as an 8-bit grey image that is as many bytes wide as a row has; byte order,
predictor and the order of the planes are undone here, as TIFF 6.0 and Adobe's technical note 3 define them.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from winnow_workers.colour import to_uint8
from winnow_workers.headers import tiff
from winnow_workers.headers.tags import Directory
from winnow_workers.signals import Unreadable

Samples = npt.NDArray[np.generic]

# none, LZW, deflate (two numbers), PackBits, LZMA, zstd: what packs bytes; the others (G4, JPEG, ...) pack pixels
_BYTE_PACKERS = frozenset({1, 5, 8, 32946, 32773, 34925, 50000})
_WHITE_IS_0, _BLACK_IS_0, _RGB, _CMYK = 0, 1, 2, 5
_COLOURS = {_WHITE_IS_0: 1, _BLACK_IS_0: 1, _RGB: 3, _CMYK: 4}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_UINT, _INT, _FLOAT = 1, 2, 3
_KINDS = {_UINT: "u", _INT: "i", _FLOAT: "f", 4: "u"}  # by SampleFormat; 4 says that nobody knows
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MOST_SAMPLES = 6  # what Pillow takes as well
_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3  # predictors
_ALL = 1 << 40


@dataclass(frozen=True, slots=True)
class Page:
    """How the samples of a page lie. `across` columns and `down` rows are stored for `width` and `height` of them."""

    width_px: int
    height_px: int
    samples: int
    dtype: np.dtype[np.generic]  # in the file's byte order
    photometric: int
    alpha: int  # of the ExtraSamples, 0 for none
    is_planar: bool
    compression: int
    predictor: int
    fill_order: int
    part_width_px: int  # of a tile, or the whole width
    part_height_px: int  # of a tile or a strip
    is_tiled: bool
    places: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def across(self) -> int:
        """Columns, with those that fill the last tile."""
        return -(-self.width_px // self.part_width_px) * self.part_width_px


def wide_page(data: bytes, page: Directory) -> Page | None:
    """What is known of a page whose samples are read here; None if it is one for Pillow."""
    bits = page.numbers(data, tiff.BITS) or (1,)
    samples = page.number(data, tiff.SAMPLES, 1)
    formats = page.numbers(data, tiff.SAMPLE_FORMAT) or (_UINT,)
    photometric = page.number(data, tiff.PHOTOMETRIC, _WHITE_IS_0)
    is_foreign = page.layout.is_big and page.layout.order == ">"  # Pillow opens no BigTIFF of this order
    if bits[0] < (8 if is_foreign else 16) or len(set(bits)) > 1 or len(set(formats)) > 1:
        return None
    dtype = _dtype(bits[0], formats[0], page.layout.order)
    width, height = page.number(data, tiff.WIDTH), page.number(data, tiff.HEIGHT)
    compression = page.number(data, tiff.COMPRESSION, 1)
    extra = samples - _COLOURS.get(photometric, samples + 1)
    if dtype is None or compression not in _BYTE_PACKERS or extra < 0 or samples > _MOST_SAMPLES or not width * height:
        return None
    extras = page.numbers(data, tiff.EXTRA_SAMPLES) or ((_UNASSOCIATED,) if extra and photometric != _CMYK else ())
    is_tiled = tiff.TILE_OFFSETS in page.entries
    return Page(
        width,
        height,
        samples,
        dtype,
        photometric,
        extras[0] if extra and extras and photometric != _CMYK else 0,
        page.number(data, tiff.PLANAR, 1) == 2 and samples > 1,
        compression,
        page.number(data, tiff.PREDICTOR, 1),
        page.number(data, tiff.FILL_ORDER, 1),
        page.number(data, tiff.TILE_WIDTH) if is_tiled else width,
        page.number(data, tiff.TILE_HEIGHT) if is_tiled else min(height, page.number(data, tiff.ROWS_PER_STRIP, _ALL)),
        is_tiled,
        page.numbers(data, tiff.TILE_OFFSETS if is_tiled else tiff.STRIP_OFFSETS, _ALL),
        page.numbers(data, tiff.TILE_BYTES if is_tiled else tiff.STRIP_BYTES, _ALL),
    )


def _dtype(bits: int, sample_format: int, order: str) -> np.dtype[np.generic] | None:
    kind = _KINDS.get(sample_format)
    if kind is None or bits not in (8, 16, 32, 64) or (kind == "f" and bits == 8):
        return None
    return np.dtype(f"{order}{kind}{bits // 8}")


def read_samples(data: bytes, page: Page) -> Samples:
    """(height, width, samples) as they are stored, in the machine's byte order.

    Raises:
        Unreadable: the page's parts do not lie in the file, or do not make up an image.
        OSError: libtiff cannot unpack them.
    """
    parts = page.across // page.part_width_px * -(-page.height_px // page.part_height_px)
    planes = page.samples if page.is_planar else 1
    if min(len(page.places), len(page.sizes)) < parts * planes:
        raise Unreadable(f"damaged tiff: {len(page.places)} of {parts * planes} strips or tiles are there")
    samples = page.samples // planes
    read = [
        _undone(_unpacked(data, page, slice(plane * parts, (plane + 1) * parts), samples), page, samples)
        for plane in range(planes)
    ]
    return read[0] if planes == 1 else np.concatenate(read, axis=2)


def _unpacked(data: bytes, page: Page, parts: slice, samples: int) -> npt.NDArray[np.uint8]:
    """(height, bytes in a row): what the parts of one plane hold."""
    pixel_bytes = samples * page.dtype.itemsize
    row_bytes = page.across * pixel_bytes
    tags: dict[int, tuple[int, ...]] = {
        tiff.WIDTH: (row_bytes,),
        tiff.HEIGHT: (page.height_px,),
        tiff.BITS: (8,),
        tiff.COMPRESSION: (page.compression,),
        tiff.PHOTOMETRIC: (_BLACK_IS_0,),
        tiff.FILL_ORDER: (page.fill_order,),
        tiff.SAMPLES: (1,),
    }
    places, sizes = page.places[parts], page.sizes[parts]
    if page.is_tiled:
        tags |= {
            tiff.TILE_WIDTH: (page.part_width_px * pixel_bytes,),
            tiff.TILE_HEIGHT: (page.part_height_px,),
            tiff.TILE_OFFSETS: places,
            tiff.TILE_BYTES: sizes,
        }
    else:
        tags |= {tiff.ROWS_PER_STRIP: (page.part_height_px,), tiff.STRIP_OFFSETS: places, tiff.STRIP_BYTES: sizes}
    with Image.OPEN["TIFF"][0](io.BytesIO(_as_bytes(data, tags)), "") as image:
        image.load()
        return np.asarray(image)


def _as_bytes(data: bytes, tags: dict[int, tuple[int, ...]]) -> bytes:
    """The file with another first directory behind its end, in the order and size of numbers that everyone reads."""
    start = len(data) + len(data) % 2
    head_bytes = 2 + 12 * len(tags) + 4
    entries, values = [], b""
    for tag, numbers in sorted(tags.items()):
        try:
            packed = struct.pack(f"<{len(numbers)}I", *numbers)
        except struct.error as error:
            raise Unreadable(f"damaged tiff: tag {tag} leads out of the file") from error
        where = packed if len(packed) == 4 else struct.pack("<I", start + head_bytes + len(values))
        entries.append(struct.pack("<HHI", tag, 4, len(numbers)) + where)
        values += b"" if len(packed) == 4 else packed
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)
    head = b"II*\0" + struct.pack("<I", start)
    return b"".join((head, memoryview(data)[8:], bytes(len(data) % 2), directory, values))


def _undone(packed: npt.NDArray[np.uint8], page: Page, samples: int) -> Samples:
    """(height, width, samples) out of bytes."""
    size, tile = page.dtype.itemsize, page.part_width_px
    rows = np.ascontiguousarray(packed).reshape(page.height_px, -1, tile * samples * size)
    if page.predictor == _FLOAT_DIFFERENCES and page.dtype.kind == "f":
        summed = np.cumsum(rows.reshape(*rows.shape[:2], -1, samples), axis=2, dtype=np.uint8)
        planes = summed.reshape(*rows.shape[:2], size, tile * samples).swapaxes(2, 3)
        values = np.ascontiguousarray(planes).view(page.dtype.newbyteorder(">"))
    else:
        values = rows.view(page.dtype)
    values = values.reshape(page.height_px, -1, tile, samples)
    values = values.astype(page.dtype.newbyteorder("="), copy=False)
    if page.predictor == _DIFFERENCES:
        numbers = values.view(f"u{size}")
        values = np.cumsum(numbers, axis=2, dtype=numbers.dtype).view(values.dtype)
    return values.reshape(page.height_px, page.across, samples)[:, : page.width_px]


def to_image(values: Samples, page: Page) -> Image.Image:
    """8 bits a channel, in a mode that Pillow knows: L, LA, RGB, RGBA or CMYK."""
    count = _COLOURS[page.photometric]
    colours = to_uint8(values[:, :, :count])
    if page.photometric == _WHITE_IS_0:
        colours = 255 - colours
    if page.photometric == _CMYK or page.alpha not in (_ASSOCIATED, _UNASSOCIATED):
        return _image(colours, "CMYK" if page.photometric == _CMYK else _MODES[count])
    alpha = to_uint8(values[:, :, count : count + 1])
    if page.alpha == _ASSOCIATED:  # the colours are multiplied by it
        divided = colours.astype(np.uint32) * 255 // np.maximum(alpha, 1)
        colours = np.minimum(divided, 255).astype(np.uint8)
    return _image(np.concatenate([colours, alpha], axis=2), _MODES[count + 1])


def _image(pixels: npt.NDArray[np.uint8], mode: str) -> Image.Image:
    height, width = pixels.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(pixels).tobytes())
