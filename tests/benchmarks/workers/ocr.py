"""Does `winnow run` read as many pages a second as rapidocr called directly, and are clean pages read right?

The direct side is the library alone: a loop in as many processes as cores, one thread each (the fastest way that we
found to call it), with the very settings of the operator, over the same files, which Pillow opens. Both sides by turns:
"whole" from the start of the processes to their end, over so many pages that starting is a small part of it; "steady"
without start and end. Then the characters that each engine gets wrong on the same clean print.

    python -m tests.benchmarks.workers.ocr --pages 200 --turns 1
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jiwer
from PIL import Image

from tests.benchmarks.engine.line import say
from tests.benchmarks.engine.rates import Rate, steady_rate
from tests.benchmarks.engine.winnow_side import WINNOW, shard_times_s
from tests.workers.text.pages import page
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_results
from winnow_storage.uri import parse

ENGINES = ("builtin/rapidocr", "builtin/tesseract")
SHARDS = 50  # of a run: so few pages each that the cores end at about the same time
CPU_PAGES = 24  # for the CPU time of one process, which needs no more
LINES, WORDS = 6, 6
SPEC = """\
name: pages
corpus: {corpus}
output: {output}
ledger: sqlite:///{folder}/ledger.db
tasks:
  - {{name: text, operator: ocr, model: {model}}}
run: {{shard_items: {shard_items}}}
"""


def make_pages(folder: Path, count: int) -> dict[str, str]:
    """Clean generated print as PNG files; the text of each by its name."""
    folder.mkdir()
    truth = {}
    for number in range(count):
        pixels, text = page(1000 + number, lines=LINES, words=WORDS)
        name = f"{number:05d}.png"
        Image.fromarray(pixels).save(folder / name)
        truth[name] = text
    return truth


def winnow_side(model: str, corpus: Path, output: Path, folder: Path) -> Rate:
    """One run of one task."""
    spec = folder / "job.yaml"
    count = len(list(corpus.iterdir()))
    shard_items = max(2, count // SHARDS)
    spec.write_text(
        SPEC.format(corpus=corpus, output=output, folder=folder, model=model, shard_items=shard_items), encoding="utf-8"
    )
    start = time.monotonic()
    subprocess.run([WINNOW, "run", spec, "--json"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole = count / (time.monotonic() - start)
    times = [at for at in shard_times_s(str(output)) for _ in range(shard_items)]
    return Rate(steady_rate(times, leave_out=cores() * shard_items), whole)


def direct_side(files: Sequence[Path]) -> Rate:
    """The library in as many processes as cores."""
    start = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(cores()) as pool:
        ended = pool.map(_loop, [files[number :: cores()] for number in range(cores())], chunksize=1)
    whole = len(files) / (time.monotonic() - start)
    begun = max(times[0] for times in ended)
    return Rate(steady_rate([at for times in ended for at in times if at >= begun], leave_out=cores()), whole)


def operator_side(files: Sequence[Path]) -> tuple[float, float]:
    """CPU seconds of the operator and of the library alone over the pages, by turns in one process of one thread.

    Other work on the machine does not count here: it is what the operator itself adds.
    """
    import cv2
    import numpy as np
    from rapidocr import RapidOCR

    from winnow_workers.models.resolve import resolve_model
    from winnow_workers.operator import View
    from winnow_workers.operators.ocr import OcrOperator, OcrParams
    from winnow_workers.text.rapid import engine_params

    cv2.setNumThreads(1)
    given = OcrParams()
    operator = OcrOperator(given, resolve_model(ENGINES[0]), "cpu")
    operator.open()
    library = RapidOCR(params=engine_params(given.detect_side_px, given.min_box_score, threads=1))
    seconds = [0.0, 0.0]
    for number, file in enumerate([files[0], *files]):
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        for side in (0, 1) if number % 2 else (1, 0):
            start = time.process_time()
            if side == 0:
                operator.run([View(pixels, pixels.shape[1], pixels.shape[0])])
            else:
                library(pixels[:, :, ::-1], use_cls=False)
            if number > 0:  # the first one warms both up
                seconds[side] += time.process_time() - start
    return seconds[0], seconds[1]


def _loop(files: Sequence[Path]) -> list[float]:
    import cv2
    import numpy as np
    from rapidocr import RapidOCR

    from winnow_workers.operators.ocr import OcrParams
    from winnow_workers.text.rapid import engine_params

    cv2.setNumThreads(1)
    given = OcrParams()
    engine = RapidOCR(params=engine_params(given.detect_side_px, given.min_box_score, threads=1))
    times = []
    for file in files:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))[:, :, ::-1]
        engine(pixels, use_cls=False)
        times.append(time.monotonic())
    return times


def character_error(output: Path, truth: dict[str, str]) -> float:
    """Of all pages together, spaces and line feeds included."""
    rows = {
        row["key"]: row["text"]["full_text"] for row in read_results(open_store(parse(str(output))), "0001").to_pylist()
    }
    return jiwer.cer([truth[name] for name in sorted(truth)], [rows[name] for name in sorted(truth)])


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def main() -> int:
    """Measure; 0 whether the points hold or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--only-operator", action="store_true", help="the first point alone: it needs no quiet machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        truth = make_pages(folder / "pages", options.pages)
        files = sorted((folder / "pages").iterdir())
        setup = f"{len(files)} generated pages of {LINES} lines"
        looked_at = files[:CPU_PAGES]
        operator_s, library_s = operator_side(looked_at)
        say(
            "5, OCR, the library's CPU time / the operator's, page by page in one process",
            [library_s / operator_s],
            at_least=0.95,
            setup=f"{setup}, {len(looked_at)} of them, the same settings, one thread",
        )
        if options.only_operator:
            return 0
        ours, theirs, loads = [], [], []
        for turn in range(options.turns):
            loads.append(round(os.getloadavg()[0], 2))  # what the machine did before, this script's own work included
            theirs.append(direct_side(files))
            ours.append(winnow_side(ENGINES[0], folder / "pages", folder / f"rapid{turn}", folder))
        for part in ("whole", "steady"):
            rates = [(getattr(one, part), getattr(other, part)) for one, other in zip(ours, theirs, strict=True)]
            say(
                f"5, OCR, winnow run / rapidocr called directly, pages a second, {part}",
                [one / other for one, other in rates],
                at_least=0.95,
                setup=f"{setup}, rapidocr with the same settings in {cores()} processes of one thread",
                winnow_pages_per_s=[round(one, 2) for one, _ in rates],
                direct_pages_per_s=[round(other, 2) for _, other in rates],
                load_before=loads,
            )
        outputs = {ENGINES[0]: folder / "rapid0", ENGINES[1]: folder / "tesseract"}
        tesseract = winnow_side(ENGINES[1], folder / "pages", outputs[ENGINES[1]], folder)
        for engine, output in outputs.items():
            say(
                f"5, OCR, character error on clean print, {engine}",
                [character_error(output, truth)],
                at_most=0.005,
                setup=f"{setup}, spaces and line feeds included",
                **({"pages_per_s": round(tesseract.steady, 2)} if engine == ENGINES[1] else {}),
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
