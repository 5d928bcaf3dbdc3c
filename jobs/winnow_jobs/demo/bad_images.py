"""How can a file be bad? Twelve on purpose, each with the outcome that it must get; three only look bad.

`unreadable`: empty, truncated, not an image at all, garbage inside. `rejected`: more pixels than any sane limit, one
by its header alone, one for real. `done`: a suffix that lies, a name with spaces and other alphabets, capitals.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from winnow_jobs.demo.image_files import KINDS, encode
from winnow_jobs.demo.sample import Sample, Samples, Truth
from winnow_jobs.demo.sources import photograph
from winnow_storage.schemas import Outcome

_GROUP = 6
_VAST_SIDE_PX = 24_000  # 576 megapixels: real, 1 bit each, 70 kB as a file


def samples(seed: int) -> Samples:
    """The twelve, in the folder `bad/`."""
    rng = np.random.default_rng([seed, _GROUP])
    jpeg = encode(photograph("skimage/astronaut.png"), KINDS["jpeg"])
    png = encode(photograph("skimage/coffee.png"), KINDS["png"])
    files: list[tuple[str, bytes, Outcome]] = [
        ("empty.jpg", b"", Outcome.UNREADABLE),
        ("truncated.jpg", jpeg[: len(jpeg) * 2 // 5], Outcome.UNREADABLE),
        ("a text file.jpg", b"This is not a picture, whatever its name says.\n", Outcome.UNREADABLE),
        ("garbage inside.png", _png(320, 240, idat=rng.bytes(4000)), Outcome.UNREADABLE),
        ("header only.gif", b"GIF89a\x40\x01\xf0\x00\x00\x00\x00", Outcome.UNREADABLE),
        ("header only.webp", b"RIFF\x24\x00\x00\x00WEBPVP8 ", Outcome.UNREADABLE),
        ("noise.tif", rng.bytes(5000), Outcome.UNREADABLE),
        ("bomb.png", _png(60_000, 60_000, idat=zlib.compress(b"\0" * 10_000)), Outcome.REJECTED),
        ("vast.png", _vast(), Outcome.REJECTED),
        ("really a png.jpg", png, Outcome.DONE),
        ("naïve café 日本.jpg", jpeg, Outcome.DONE),
        ("CAPITALS.JPG", encode(photograph("skimage/chelsea.png"), KINDS["jpeg_grey"]), Outcome.DONE),
    ]
    for name, data, outcome in files:
        yield Sample(f"bad/{name}", data, Truth(expected_outcome=outcome))


def _png(width_px: int, height_px: int, *, idat: bytes) -> bytes:
    """A PNG with a valid header and check sums, 8-bit RGB, whose pixels are whatever `idat` is."""
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", idat), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _vast() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (_VAST_SIDE_PX, _VAST_SIDE_PX)).save(buffer, format="PNG")
    return buffer.getvalue()
