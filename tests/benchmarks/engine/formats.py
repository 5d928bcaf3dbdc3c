"""How near is our decoding of what is no JPEG to the fastest of the decoders that are installed? By turns.

OpenCV's and torchvision's decoders beside ours, of photographs of 800 x 600 to RGB, the faster of the two over ours: in
one thread process time, in two, as in a decode pool, time on the clock, where a decoder that keeps the interpreter's
lock costs more. Theirs know no limits, no orientation, no profile, no transparency on a background. JPEG has a script
of its own (`decoding`).

    python -m tests.benchmarks.engine.formats --repeats 5
"""

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
from PIL import Image
from skimage import data

from tests.benchmarks.engine.line import say
from winnow_workers.allocator import keep_freed_memory
from winnow_workers.decode import DecodeLimits, decode

SIZE_PX = (800, 600)
LIMITS = DecodeLimits()
ROUNDS_OF_TWO = 4  # over the files, for the threads' start and end to count little
FORMATS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "PNG": ("PNG", {}),
    "PNG, grey": ("PNG", {}),
    "WebP, lossy": ("WEBP", {"quality": 85}),
    "WebP, lossless": ("WEBP", {"lossless": True}),
    "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF, deflate": ("TIFF", {"compression": "tiff_deflate"}),
    "GIF": ("GIF", {}),
    "BMP": ("BMP", {}),
    "AVIF": ("AVIF", {"quality": 75}),
}
Decoder = Callable[[bytes], np.ndarray]


def _ours(file: bytes) -> np.ndarray:
    return decode(file, needed_side_px=None, limits=LIMITS).pixels


def _by_opencv(file: bytes) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError("OpenCV does not read it")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _by_torchvision(file: bytes) -> np.ndarray:
    planes = torchvision.io.decode_image(torch.frombuffer(bytearray(file), dtype=torch.uint8), mode="RGB")
    return planes.permute(1, 2, 0).contiguous().numpy()


def measure(name: str, repeats: int) -> None:
    """Two lines: in one thread, and in two."""
    files = _files(name)
    others = [decoder for decoder in (_by_opencv, _by_torchvision) if _reads(decoder, files[0])]
    same = [all(np.array_equal(decoder(file), _ours(file)) for file in files) for decoder in others]
    for threads, cost in ((1, _cost_s), (2, _cost_of_two_s)):
        turns = [[cost(decoder, files) for decoder in (_ours, *others)] for _ in range(repeats)]
        # one of them for all turns: the faster one of each turn would be the luckier one
        fastest = min(range(1, len(turns[0])), key=lambda number: statistics.median(turn[number] for turn in turns))
        say(
            f"4, {name}, {threads} thread{'s' if threads > 1 else ''}: time of the faster of OpenCV and torchvision / "
            "of our decoding",
            [turn[fastest] / turn[0] for turn in turns],
            setup=f"{len(files)} photographs of 800 x 600 to RGB",
            ours_and_others_ms=[[round(seconds / len(files) * 1e3, 2) for seconds in turn] for turn in turns],
            same_pixels=same,
        )


def _files(name: str) -> list[bytes]:
    kind, options = FORMATS[name]
    files = []
    for source in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket()):
        sink = io.BytesIO()
        image = Image.fromarray(source).resize(SIZE_PX, Image.Resampling.BICUBIC)
        image.convert("L" if "grey" in name else "RGB").save(sink, kind, **options)
        files.append(sink.getvalue())
    return files


def _reads(decoder: Decoder, file: bytes) -> bool:
    try:
        return decoder(file).shape == (SIZE_PX[1], SIZE_PX[0], 3)
    except (ValueError, RuntimeError):
        return False


def _cost_s(decoder: Decoder, files: Sequence[bytes]) -> float:
    start = time.process_time()
    for file in files:
        decoder(file)
    return time.process_time() - start


def _cost_of_two_s(decoder: Decoder, files: Sequence[bytes]) -> float:
    with ThreadPoolExecutor(2) as pool:
        start = time.perf_counter()
        list(pool.map(decoder, [*files] * ROUNDS_OF_TWO))
        return (time.perf_counter() - start) / ROUNDS_OF_TWO


def main() -> int:
    """Measure; 0: nothing is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()  # as actors do
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for name in FORMATS:
        measure(name, options.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
