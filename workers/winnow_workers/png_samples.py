"""How are the samples of a 16-bit PNG brought to 8 bits? Rounded; Pillow keeps only the upper byte of colours.

OpenCV reads all 16 bits; Pillow has read the file before, and refused what is cut off or damaged. Of an animation
OpenCV is given the default image alone, which is what Pillow reads.
"""

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from winnow_workers.colour import to_uint8

_GREY, _RGB, _GREY_ALPHA, _RGBA = 0, 2, 4, 6  # colour types
_MODES = {_GREY: "L", _RGB: "RGB", _GREY_ALPHA: "LA", _RGBA: "RGBA"}
_WITH_ALPHA = {_GREY: "LA", _RGB: "RGBA"}
_DEPTH_AT, _COLOUR_AT = 24, 25  # in the file: signature, length, "IHDR", two sides
_SIGNATURE_BYTES, _CHUNK_BYTES = 8, 12  # of a chunk beside its content: length, name, checksum
_OF_ANIMATION = (b"acTL", b"fcTL", b"fdAT")  # PNG, third edition, 11.3.6

Samples = npt.NDArray[np.uint16]


def rounded(image: Image.Image, data: bytes) -> Image.Image:
    """A loaded PNG in 8 bits a sample, rounded; the same image if it is not of 16 bits.

    What a tRNS chunk says is transparent is so where all 16 bits of a pixel are equal.
    """
    colour = data[_COLOUR_AT]
    if data[12:16] != b"IHDR" or data[_DEPTH_AT] != 16 or colour not in _MODES:
        return image
    samples = _samples(image, _still(data) if getattr(image, "is_animated", False) else data, colour)
    if samples is None:
        return image
    key = image.info.get("transparency")
    channels = [to_uint8(samples)]
    mode = _MODES[colour]
    if colour in _WITH_ALPHA and isinstance(key, int | tuple):
        clear = (samples == np.asarray(key, np.int64)).all(axis=2)
        channels.append(np.where(clear, 0, 255).astype(np.uint8)[:, :, None])
        mode = _WITH_ALPHA[colour]
    pixels = np.ascontiguousarray(np.concatenate(channels, axis=2))
    narrow = Image.frombytes(mode, image.size, pixels.tobytes())
    narrow.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return narrow


def _still(data: bytes) -> bytes:
    """An animation's default image as a file of its own."""
    kept, start = [data[:_SIGNATURE_BYTES]], _SIGNATURE_BYTES
    while start + _CHUNK_BYTES <= len(data):
        end = start + _CHUNK_BYTES + int.from_bytes(data[start : start + 4], "big")
        if data[start + 4 : start + 8] not in _OF_ANIMATION:
            kept.append(data[start:end])
        start = end
    return b"".join(kept)


def _samples(image: Image.Image, data: bytes, colour: int) -> Samples | None:
    """(height, width, channels), red first; None if OpenCV reads something else than its header says."""
    if colour == _GREY:
        return np.asarray(image).astype(np.uint16)[:, :, None]
    read: npt.NDArray[np.uint16] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if read is None or read.dtype != np.uint16 or read.ndim != 3 or read.shape[1::-1] != image.size:
        return None
    if colour == _GREY_ALPHA:
        return np.stack([read[:, :, 0], read[:, :, -1]], axis=2)
    wanted = 4 if colour == _RGBA else 3
    if read.shape[2] < wanted:
        return None
    return np.concatenate([read[:, :, 2::-1], read[:, :, 3:wanted]], axis=2)
