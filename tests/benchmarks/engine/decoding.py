"""How near is our decoding to a tight loop over the fastest JPEG library, one thread each, by turns?

The loop: simplejpeg's decoding at the least scale that keeps 224 px, then the same resizing to a tensor; no limits,
no orientation, no colour profile, no other formats. Process time, so that other work on the machine counts little.
TorchCodec is not among our packages; the decoder of torchvision, whose successor it is, knows the full size only.
Last, whether images that are decoded at a fraction of their size get the same labels (`agreement`).
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image
from skimage import data

from tests.benchmarks.engine.agreement import INPUT, LIMITS, SIDE_PX, agreement
from tests.benchmarks.engine.images import jpegs
from tests.benchmarks.engine.line import say
from winnow_workers.decode import decode
from winnow_workers.models.preprocess import to_tensor


def main() -> int:
    """Measure; 0 whether it holds or not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--train", type=int, default=1000, help="images that the network of the last point learns from")
    parser.add_argument("--test", type=int, default=5000, help="images that it is asked about")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        files = [path.read_bytes() for path in jpegs(Path(scratch) / "photos", options.images)]
    say(
        "4, 800 x 600 JPEG to a 224 px tensor, of a tight simplejpeg loop",
        [_cost(_tight, files) / _cost(_ours, files) for _ in range(options.repeats)],
        at_least=0.85,
        setup=f"one thread, {options.images} images",
    )
    big = _big()
    say(
        "4, 12 MP JPEG to 224 px, beside Pillow's full decode",
        [_cost(_full, big) / _cost(_ours, big) for _ in range(options.repeats)],
        at_least=7.0,
        setup="one thread, 4 images of 4000 x 3000",
    )
    found = agreement(options.train, options.test, seed=0)
    say(
        "4, top-1 labels that DCT-scaled and full decoding have in common",
        [found.same],
        at_least=0.995,
        setup=f"{options.test} crops of {found.labels} photographs, a small network trained on {options.train} others",
        right=[round(found.right_full, 4), round(found.right_scaled, 4)],
    )
    return 0


def _ours(file: bytes) -> torch.Tensor:
    return to_tensor(decode(file, needed_side_px=SIDE_PX, limits=LIMITS).pixels, INPUT)


def _tight(file: bytes) -> torch.Tensor:
    return to_tensor(simplejpeg.decode_jpeg(file, min_height=SIDE_PX, min_width=SIDE_PX), INPUT)


def _full(file: bytes) -> torch.Tensor:
    with Image.open(io.BytesIO(file)) as image:
        return to_tensor(np.array(image), INPUT)


def _cost(to_pixels: Callable[[bytes], torch.Tensor], files: Sequence[bytes]) -> float:
    start = time.process_time()
    for file in files:
        to_pixels(file)
    return time.process_time() - start


def _big() -> list[bytes]:
    made = []
    for source in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket()):
        image = Image.fromarray(source).resize((4000, 3000), Image.Resampling.BICUBIC)
        grain = np.random.default_rng(0).normal(
            0, 6, (3000, 4000, 3)
        )  # enlarged photographs are smoother than a camera's
        sink = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)).save(sink, "JPEG", quality=90)
        made.append(sink.getvalue())
    return made


if __name__ == "__main__":
    sys.exit(main())
