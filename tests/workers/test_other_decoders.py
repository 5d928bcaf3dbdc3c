"""Do other decoders see in a file what ours does?

PNG and JPEG inks are read straight from the standards (`plain_decoders`); FFmpeg has code of its own for progressive
JPEG, WebP, and TIFF in LZW and as faxes; AVIF is decoded by libaom in OpenCV, by dav1d in Pillow; TIFF is read by
tifffile; GIF and BMP by OpenCV's own code, with which plain BMPs are decoded (`test_plain` holds that against Pillow).
Chromium shows them all, profiles by its own colour management, but no TIFF.
"""

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from tests.servers.chromium import empty_page
from tests.workers.image_files import chunk, encoded, exif_of, noise, scene
from tests.workers.plain_decoders import ADAM7, jpeg_planes, png_pixels, rgb_of
from tests.workers.test_colour import fixed, gamma, icc
from tests.workers.test_ycck import ADOBE, inks, ycck
from winnow_workers.decode import DecodeLimits, DecodeSettings, decode

PICTURE = Image.fromarray(scene())
ROUGH = Image.fromarray(noise("uint8"))
BACKGROUND = "#ff8000"
BEHIND = (255, 128, 0)


def pixels_of(data: bytes, background: str = BACKGROUND) -> np.ndarray:
    settings = DecodeSettings(background=background)
    found = decode(data, needed_side_px=None, limits=DecodeLimits(), settings=settings)
    return found.pixels.astype(int)


def farthest(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


def by_opencv(data: bytes) -> np.ndarray:
    """(height, width, 3), red first."""
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert read is not None
    return read[:, :, ::-1].astype(int)


def by_ffmpeg(file: Path) -> np.ndarray:
    """(height, width, 3), red first; the kind of a file is told by its name."""
    reader = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
    done, read = reader.read()
    reader.release()
    assert done
    return read[:, :, ::-1].astype(int)


def see_through() -> Image.Image:
    """The rough picture with every opacity from none to all."""
    image = ROUGH.copy()
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 48).round().astype(np.uint8), (32, 1))))
    return image


def sixteen_bits(channels: int) -> bytes:
    """By OpenCV, which writes what Pillow cannot."""
    ok, data = cv2.imencode(".png", noise("uint16", channels))
    assert ok
    return bytes(data)


def interlaced() -> bytes:
    """Adam7, which neither Pillow nor OpenCV writes; the rows are not filtered."""
    pixels = noise("uint8")
    rows = [b"\0" + row.tobytes() for left, top, x, y in ADAM7 for row in pixels[top::y, left::x]]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 32, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


def quantised(colours: int) -> Image.Image:
    return PICTURE.quantize(colours)


PNGS = {
    "colour": encoded(ROUGH, "PNG"),
    "smooth": encoded(PICTURE, "PNG"),  # other filters
    "grey": encoded(ROUGH.convert("L"), "PNG"),
    "bilevel": encoded(ROUGH.convert("1"), "PNG"),
    "alpha": encoded(see_through(), "PNG"),
    "grey alpha": encoded(see_through().convert("LA"), "PNG"),
    "a transparent colour": encoded(PICTURE, "PNG", transparency=(128, 128, 127)),
    "interlaced": interlaced(),
    **{f"palette of {colours}": encoded(quantised(colours), "PNG") for colours in (2, 4, 16, 256)},
    "palette with opacities": encoded(quantised(16), "PNG", transparency=bytes(range(0, 256, 17))),
    "16 bits": sixteen_bits(3),
    "16 bits grey": sixteen_bits(1),
    "16 bits alpha": sixteen_bits(4),
}


@pytest.mark.parametrize("name", list(PNGS))
def test_png__as_the_standard_reads(name: str) -> None:
    exact = png_pixels(PNGS[name], BEHIND)
    blended = "alpha" in name or "opacities" in name
    assert farthest(pixels_of(PNGS[name]), exact) <= (1.5 if blended else 0.5)  # opacity is rounded as well


def without_marker(data: bytes) -> bytes:
    at = data.index(ADOBE)
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def cmyk() -> bytes:
    planes = np.rint(255 * inks()).astype(np.uint8)
    return encoded(Image.fromarray(planes, "CMYK"), "JPEG", quality=90, subsampling=0)


JPEGS = {
    "colour": encoded(PICTURE, "JPEG", quality=90, subsampling=0),
    "rough": encoded(ROUGH, "JPEG", quality=60, subsampling=0),
    "grey": encoded(PICTURE.convert("L"), "JPEG", quality=90),
    "stored as rgb": encoded(PICTURE, "JPEG", quality=90, subsampling=0, keep_rgb=True),
    "cmyk": cmyk(),
    "cmyk without Adobe's marker": without_marker(cmyk()),
    "ycck": ycck(inks()),
}


@pytest.mark.parametrize("name", list(JPEGS))
def test_jpeg__as_the_standard_reads(name: str) -> None:
    planes, transform = jpeg_planes(JPEGS[name])
    if planes.shape[2] == 1:
        exact = np.broadcast_to(planes, (*planes.shape[:2], 3))
    elif planes.shape[2] == 3:
        exact = planes if transform == 0 else rgb_of(planes)
    else:  # every plane is inverted; of YCCK the three are YCbCr of the inks, which libjpeg inverts
        colours = 255 - rgb_of(planes[:, :, :3]) if transform == 2 else planes[:, :, :3]
        exact = colours * planes[:, :, 3:] / 255
    assert {"cmyk": 0, "ycck": 2, "stored as rgb": 0}.get(name) == transform
    assert farthest(pixels_of(JPEGS[name]), exact) <= 3


def test_jpeg__as_libjpeg_to_the_last_bit() -> None:
    for options in ({}, {"progressive": True}):
        data = encoded(PICTURE, "JPEG", **options)
        assert farthest(pixels_of(data), simplejpeg.decode_jpeg(data)) == 0


def test_webp__as_ffmpeg_decodes_its_frame(tmp_path: Path) -> None:
    grey = ROUGH.convert("L").convert("RGB").resize((96, 64), Image.Resampling.BICUBIC)
    for image, furthest, apart in ((grey, 2, 1.0), (PICTURE.resize((480, 320)), 8, 1.5)):  # it spreads colour otherwise
        data = encoded(image, "WEBP", quality=80)
        at = data.index(b"VP8 ")
        frame = data[at + 8 : at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")]
        head = struct.pack("<4sHH4sHHIIII", b"DKIF", 0, 32, b"VP80", *image.size, 25, 1, 1, 0)
        video = tmp_path / "frame.ivf"
        video.write_bytes(head + struct.pack("<IQ", len(frame), 0) + frame)
        difference = np.abs(pixels_of(data) - by_ffmpeg(video))
        assert difference.max() <= furthest
        assert difference.mean() <= apart


PROGRESSIVE = {"progressive": True, "quality": 90}
STILLS = {
    "progressive.jpg": (encoded(PICTURE, "JPEG", **PROGRESSIVE, subsampling=0), 3),
    "progressive rough.jpg": (encoded(ROUGH, "JPEG", **PROGRESSIVE, subsampling=0), 3),
    "progressive grey.jpg": (encoded(ROUGH.convert("L"), "JPEG", **PROGRESSIVE), 3),
    "lossless.webp": (encoded(PICTURE, "WEBP", lossless=True), 0),
    "lossless rough.webp": (encoded(ROUGH, "WEBP", lossless=True), 0),
    "lossless of few colours.webp": (encoded(quantised(4).convert("RGB"), "WEBP", lossless=True), 0),
    "lzw.tif": (encoded(ROUGH, "TIFF", compression="tiff_lzw"), 0),
    "lzw palette.tif": (encoded(quantised(16), "TIFF", compression="tiff_lzw"), 0),
    "g3.tif": (encoded(PICTURE.convert("1"), "TIFF", compression="group3"), 0),
    "g4.tif": (encoded(PICTURE.convert("1"), "TIFF", compression="group4"), 0),
}


@pytest.mark.parametrize("name", list(STILLS))
def test_stills__as_ffmpeg_decodes_them(name: str, tmp_path: Path) -> None:
    data, at_most = STILLS[name]
    file = tmp_path / name
    file.write_bytes(data)
    assert farthest(pixels_of(data), by_ffmpeg(file)) <= at_most


@pytest.mark.parametrize(
    "options",
    [{"quality": 60}, {"quality": 90, "subsampling": "4:4:4"}, {"quality": 80, "subsampling": "4:2:2"},
     {"quality": 80, "range": "limited"}],
    ids=str,
)  # fmt: skip
def test_avif__as_libaom(options: dict[str, Any]) -> None:
    for image in (
        PICTURE,
        ROUGH,
        *([] if "range" in options else [PICTURE.convert("L")]),
    ):  # OpenCV leaves grey limited
        data = encoded(image, "AVIF", **options)
        assert farthest(pixels_of(data), by_opencv(data)) <= 2


def test_avif__transparency_as_libaom() -> None:  # Chromium takes opacities of 5 in 255 for none
    data = encoded(see_through(), "AVIF", quality=90, subsampling="4:4:4")
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).astype(float)
    alpha = read[:, :, 3:] / 255
    assert farthest(pixels_of(data), read[:, :, 2::-1] * alpha + np.array(BEHIND) * (1 - alpha)) <= 2


@pytest.mark.parametrize(
    ("image_format", "options"),
    [("PNG", {}), ("BMP", {}), ("GIF", {}), ("WEBP", {"lossless": True}), ("WEBP", {"quality": 80}), ("TIFF", {}),
     ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "jpeg"}), ("JPEG", {"progressive": True})],
    ids=str,
)  # fmt: skip
def test_others__as_opencv(image_format: str, options: dict[str, Any]) -> None:
    images = [PICTURE, quantised(16), PICTURE.convert("L")]
    for image in images:
        made = image.convert("RGB") if image_format in {"WEBP", "JPEG"} or "jpeg" in options.values() else image
        data = encoded(made, image_format, **options)
        assert farthest(pixels_of(data), by_opencv(data)) <= 3


@pytest.mark.parametrize("compression", ["group3", "group4"])
def test_tiff__of_faxes_as_opencv(compression: str) -> None:
    page = np.asarray(PICTURE.convert("1"))
    data = encoded(Image.fromarray(page), "TIFF", compression=compression)
    assert farthest(pixels_of(data), by_opencv(data)) == 0
    assert farthest(pixels_of(data), np.repeat(page[:, :, None] * 255, 3, axis=2)) == 0


@pytest.mark.parametrize("compression", ["tiff_lzw", "zstd"])
def test_tiff__as_it_was_encoded(compression: str) -> None:
    assert farthest(pixels_of(encoded(ROUGH, "TIFF", compression=compression)), np.asarray(ROUGH)) == 0


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate", "packbits", "lzma"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "I;16", "P"])
def test_tiff__as_tifffile_reads(mode: str, compression: str | None) -> None:
    image = {
        "I;16": lambda: Image.fromarray(noise("uint16", 1)[:, :, 0]),
        "CMYK": lambda: Image.fromarray(np.rint(255 * inks()).astype(np.uint8), "CMYK"),
        "P": lambda: quantised(16),
    }.get(mode, lambda: ROUGH.convert(mode))()
    data = encoded(image, "TIFF", compression=compression)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        samples, colours = page.asarray().astype(float), page.colormap
    if mode == "P":
        exact = colours.T[samples.astype(int)] / 257
    elif mode == "CMYK":
        exact = (255 - samples[:, :, :3]) * (255 - samples[:, :, 3:]) / 255
    else:
        exact = samples if mode == "RGB" else np.repeat(samples[:, :, None] / (257 if mode == "I;16" else 1), 3, axis=2)
    assert farthest(pixels_of(data), exact) <= 1


def display_p3() -> bytes:
    """Its primaries by ICC's matrix at D50, with a gamma of 2.2."""
    columns = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
    tags = {name: b"XYZ \0\0\0\0" + fixed(*column)
            for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}  # fmt: skip
    return icc(b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(2.2)))


SHOWN = {
    **{f"png: {name}": data for name, data in PNGS.items()},
    **{f"jpeg: {name}": data for name, data in JPEGS.items()},
    "jpeg: progressive": encoded(PICTURE, "JPEG", progressive=True),
    "webp: lossy": encoded(PICTURE.resize((96, 64)), "WEBP", quality=80),
    "webp: lossy alpha": encoded(see_through(), "WEBP", quality=90),
    "webp: lossless": encoded(ROUGH, "WEBP", lossless=True),
    "gif": encoded(quantised(16), "GIF"),
    "bmp": encoded(ROUGH, "BMP"),
    "avif": encoded(PICTURE, "AVIF", quality=90, subsampling="4:4:4"),
    "avif: rough": encoded(ROUGH, "AVIF", quality=70),
    **{f"profile: {kind}": encoded(PICTURE, kind, icc_profile=display_p3()) for kind in ("PNG", "JPEG", "WEBP")},
    **{f"jpeg: turned {number}": encoded(PICTURE, "JPEG", exif=exif_of(number), quality=90, subsampling=0)
       for number in range(1, 9)},
}  # fmt: skip
DRAW = """async ({files, background}) => {
  const shown = {};
  for (const [name, text] of Object.entries(files)) {
    const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(text), one => one.charCodeAt(0))]));
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    canvas.fillStyle = background;
    canvas.fillRect(0, 0, bitmap.width, bitmap.height);
    canvas.drawImage(bitmap, 0, 0);
    const pixels = canvas.getImageData(0, 0, bitmap.width, bitmap.height).data;
    shown[name] = [bitmap.width, bitmap.height, Array.from(pixels)];
  }
  return shown;
}"""


@pytest.fixture(scope="module")
def shown() -> dict[str, np.ndarray]:
    """What Chromium draws, (height, width, 3)."""
    files = {name: base64.b64encode(data).decode() for name, data in SHOWN.items()}
    with empty_page() as page:
        found = page.evaluate(DRAW, {"files": files, "background": BACKGROUND})
    return {name: np.array(values).reshape(height, width, 4)[:, :, :3]
            for name, (width, height, values) in found.items()}  # fmt: skip


@pytest.mark.parametrize("name", list(SHOWN))
def test_all__as_chromium_shows(name: str, shown: dict[str, np.ndarray]) -> None:
    assert farthest(pixels_of(SHOWN[name]), shown[name]) <= 3
