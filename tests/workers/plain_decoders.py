"""PNG and baseline JPEG read straight from their standards, in numpy: what the tests hold the decoders against."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
# left, top, and from one sample to the next
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_pixels(data: bytes, background: tuple[int, int, int]) -> np.ndarray:
    """(height, width, 3) float64, 0 to 255, on `background`, nothing rounded (PNG, third edition)."""
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        chunks[name] = chunks.get(name, b"") + body
        at += 12 + length
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    raw, channels = zlib.decompress(chunks[b"IDAT"]), CHANNELS[colour]
    samples = np.zeros((height, width, channels), np.int64)
    start = 0
    for left, top, step_x, step_y in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = len(range(left, width, step_x)), len(range(top, height, step_y))
        if not columns or not rows:
            continue
        row_bytes = (columns * channels * depth + 7) // 8
        part = _unfiltered(raw[start : start + rows * (row_bytes + 1)], row_bytes, max(1, channels * depth // 8))
        start += rows * (row_bytes + 1)
        samples[top::step_y, left::step_x] = _unpacked(part, depth, columns * channels).reshape(rows, columns, channels)
    colours, alpha = _shown(samples, depth, colour, chunks)
    return colours * alpha + np.array(background) * (1 - alpha)


def _unfiltered(raw: bytes, row_bytes: int, step: int) -> np.ndarray:
    rows = np.frombuffer(raw, np.uint8).reshape(-1, row_bytes + 1)
    before, made = np.zeros(row_bytes, np.int64), []
    for row in rows.tolist():
        now = np.zeros(row_bytes, np.int64)
        for place, value in enumerate(row[1:]):
            left = int(now[place - step]) if place >= step else 0
            up, corner = int(before[place]), int(before[place - step]) if place >= step else 0
            guess = left + up - corner
            near = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            now[place] = (value + (0, left, up, (left + up) // 2, near)[row[0]]) % 256
        made.append(now)
        before = now
    return np.array(made, np.uint8)


def _unpacked(rows: np.ndarray, depth: int, samples: int) -> np.ndarray:
    """(rows, samples), the highest bit first."""
    bits = np.unpackbits(rows, axis=1)[:, : samples * depth].reshape(len(rows), samples, depth).astype(np.int64)
    values: np.ndarray = bits @ (1 << np.arange(depth)[::-1])
    return values


def _shown(samples: np.ndarray, depth: int, colour: int, chunks: dict[bytes, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Colours from 0 to 255 and what covers, from 0 to 1."""
    top = float((1 << depth) - 1)
    clear = chunks.get(b"tRNS")
    if colour == PALETTE:
        palette = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3).astype(np.float64)
        covers = np.full(len(palette), 255.0)
        covers[: len(clear or b"")] = np.frombuffer(clear or b"", np.uint8)
        index = samples[:, :, 0]
        return palette[index], covers[index][:, :, None] / 255
    if colour in (GREY_ALPHA, COLOUR_ALPHA):
        return samples[:, :, :-1] * 255 / top, samples[:, :, -1:] / top
    opaque = np.ones((*samples.shape[:2], 1))
    if clear is not None:
        key = np.frombuffer(clear, ">u2").astype(np.int64)
        opaque[(samples == key).all(axis=2)] = 0
    return samples * 255 / top, opaque


@dataclass(slots=True)
class _Jpeg:
    quantisers: dict[int, np.ndarray] = field(default_factory=dict)
    codes: dict[int, dict[tuple[int, int], int]] = field(default_factory=dict)  # table -> (length, code) -> symbol
    size: tuple[int, int] = (0, 0)
    components: list[tuple[int, int]] = field(default_factory=list)  # identifier, quantiser
    transform: int | None = None


def jpeg_planes(data: bytes) -> tuple[np.ndarray, int | None]:
    """A baseline JPEG's components as they are stored, (height, width, n) from 0 to 255, and Adobe's transform.

    After ITU-T T.81, for what the tests write: no subsampling, no restart intervals.
    """
    found, at = _Jpeg(), 2
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xDA:
            return _scan(found, body, data[at:]), found.transform
        _take(found, marker, body)


def _take(found: _Jpeg, marker: int, body: bytes) -> None:
    if marker == 0xDB:
        for start in range(0, len(body), 65):
            found.quantisers[body[start]] = np.frombuffer(body[start + 1 : start + 65], np.uint8).astype(np.float64)
    elif marker == 0xC4:
        while body:
            counts, place, code = body[1:17], 17, 0
            table = found.codes.setdefault(body[0], {})
            for length, count in enumerate(counts, 1):
                for _ in range(count):
                    table[length, code] = body[place]
                    code, place = code + 1, place + 1
                code *= 2
            body = body[place:]
    elif marker == 0xC0:
        assert body[0] == 8
        found.size = struct.unpack(">HH", body[1:5])
        for start in range(6, len(body), 3):
            assert body[start + 1] == 0x11, "subsampled"
            found.components.append((body[start], body[start + 2]))
    elif marker == 0xEE and body[:5] == b"Adobe":
        found.transform = body[11]
    else:
        assert marker not in {0xC1, 0xC2, 0xDD}, hex(marker)


def _scan(found: _Jpeg, header: bytes, coded: bytes) -> np.ndarray:
    tables = {header[1 + 2 * one]: header[2 + 2 * one] for one in range(header[0])}
    bits = iter(np.unpackbits(np.frombuffer(coded.replace(b"\xff\x00", b"\xff"), np.uint8)).tolist())
    height, width = found.size
    rows, columns = -(-height // 8), -(-width // 8)
    planes = np.zeros((rows * 8, columns * 8, len(found.components)))
    before = [0] * len(found.components)
    for block in range(rows * columns):
        top, left = 8 * (block // columns), 8 * (block % columns)
        for place, (name, quantiser) in enumerate(found.components):
            values = _block(bits, found.codes[tables[name] >> 4], found.codes[0x10 | (tables[name] & 15)])
            values[0] += before[place]
            before[place] = int(values[0])
            square = np.zeros(64)
            square[ZIGZAG] = values * found.quantisers[quantiser]
            planes[top : top + 8, left : left + 8, place] = WAVES.T @ square.reshape(8, 8) @ WAVES + 128
    return np.clip(planes[:height, :width], 0, 255)


def _block(bits: Iterator[int], first: dict[tuple[int, int], int], others: dict[tuple[int, int], int]) -> np.ndarray:
    """The 64 coefficients of a block, in zigzag order, the first one less the block before."""
    values = np.zeros(64)
    values[0] = _number(bits, _symbol(bits, first))
    place = 1
    while place < 64:
        symbol = _symbol(bits, others)
        if symbol == 0:
            break
        place += symbol >> 4
        if symbol != 0xF0:
            values[place] = _number(bits, symbol & 15)
        place += 1
    return values


def _symbol(bits: Iterator[int], codes: dict[tuple[int, int], int]) -> int:
    code = 0
    for length in range(1, 17):
        code = 2 * code + next(bits)
        if (length, code) in codes:
            return codes[length, code]
    raise AssertionError("no such code")


def _number(bits: Iterator[int], size: int) -> int:
    value = 0
    for _ in range(size):
        value = 2 * value + next(bits)
    return value if not size or value >> (size - 1) else value - (1 << size) + 1


def _zigzag() -> np.ndarray:
    order = sorted(
        np.ndindex(8, 8), key=lambda at: (at[0] + at[1], at[0] if (at[0] + at[1]) % 2 else at[1])
    )  # T.81, figure 5
    return np.array([8 * row + column for row, column in order])


ZIGZAG = _zigzag()
WAVES = np.array([[np.cos((2 * x + 1) * u * np.pi / 16) * (0.5 if u else 8**-0.5) for x in range(8)] for u in range(8)])


def rgb_of(luma_chroma: np.ndarray) -> np.ndarray:
    """JFIF's conversion, (..., 3) from 0 to 255, not rounded."""
    y, cb, cr = luma_chroma[..., 0], luma_chroma[..., 1] - 128, luma_chroma[..., 2] - 128
    return np.clip(np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1), 0, 255)
