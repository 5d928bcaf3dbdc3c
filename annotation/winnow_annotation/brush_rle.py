"""How does Label Studio write a brush mask? Its bit-packed run-length code of an RGBA image, both ways.

Layout, most significant bit first: 32 bits number of values (4 per pixel), 5 bits word size - 1, four times 4 bits
run size - 1, then blocks: 1 bit (1: one value repeated; 0: values one by one), 2 bits which run size, that many
bits count - 1, and one value or `count` values. It is the `rle-pack` format (github.com/thi-ng/umbrella).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

MaskHW = npt.NDArray[np.bool_]

_WORD_BITS = 8
_RUN_BITS = (4, 8, 12, 16)
_OPAQUE = 255  # the alpha of a painted pixel; 1 would be stored and drawn as nearly invisible
_HALF_OPAQUE = 128
_HEADER_BITS = 32 + 5 + 4 * 4
_MAX_VALUES = 4 * 400_000_000  # far above every image that passes the pixel limits


def encode(mask: MaskHW) -> list[int]:
    """The bytes of `mask` (bool, height x width) as Label Studio's `rle`."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1])) if flat.size else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, flat.size)) * 4
    header = f"{flat.size * 4:032b}{_WORD_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in _RUN_BITS)
    runs = (_run(int(length), painted=bool(flat[start])) for start, length in zip(starts, lengths, strict=True))
    bits = header + "".join(runs)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def decode(rle: Sequence[int], *, height: int, width: int) -> MaskHW:
    """The mask of `height` x `width` whose alpha is at least half.

    Raises:
        ValueError: the code is broken or of another size.
    """
    bits = np.unpackbits(np.asarray(rle, dtype=np.uint8)).tobytes().translate(bytes([48, 49]) + bytes(254))
    try:
        values = np.concatenate([np.zeros(0, np.uint8), *_blocks(bits)])
    except IndexError as error:
        raise ValueError("the brush mask ends too early") from error
    if values.size != height * width * 4:
        raise ValueError(f"the brush mask has {values.size // 4} pixels, its image {height * width}")
    return np.asarray(values[3::4].reshape(height, width) >= _HALF_OPAQUE)


def _run(length: int, *, painted: bool) -> str:
    value = f"{_OPAQUE if painted else 0:08b}"
    longest = 1 << _RUN_BITS[-1]
    whole, rest = divmod(length, longest)
    code = f"111{longest - 1:016b}{value}" * whole
    if rest:
        which = next(index for index, bits in enumerate(_RUN_BITS) if rest <= 1 << bits)
        code += f"1{which:02b}{rest - 1:0{_RUN_BITS[which]}b}{value}"
    return code


def _blocks(bits: bytes) -> Iterable[npt.NDArray[np.uint8]]:
    total, word = _number(bits, 0, 32), _number(bits, 32, 5) + 1
    sizes = [_number(bits, 37 + 4 * index, 4) + 1 for index in range(4)]
    if word != _WORD_BITS or total > _MAX_VALUES:
        raise ValueError("the brush mask is not of 8-bit values or too large")
    at, done = _HEADER_BITS, 0
    while done < total:
        repeated, size = bits[at] == ord("1"), sizes[_number(bits, at + 1, 2)]
        count = _number(bits, at + 3, size) + 1
        at += 3 + size
        if done + count > total:
            raise ValueError("the brush mask is longer than it says")
        if repeated:
            yield np.full(count, _number(bits, at, word), np.uint8)
        else:
            yield _values(bits, at, count)
        at += word if repeated else word * count
        done += count


def _number(bits: bytes, at: int, length: int) -> int:
    if at + length > len(bits):
        raise IndexError(at)
    return int(bits[at : at + length], 2)


def _values(bits: bytes, at: int, count: int) -> npt.NDArray[np.uint8]:
    if at + _WORD_BITS * count > len(bits):
        raise IndexError(at)
    block = np.frombuffer(bits, np.uint8, _WORD_BITS * count, at) - ord("0")
    return np.packbits(block)
