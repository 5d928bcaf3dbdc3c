"""How busy does the pipeline keep a GPU? Bytes to committed Parquet beside the bare model, and decoding on the GPU.

Without Ray: one process, the pipeline as an actor runs it: bytes to the device, all tasks begun with ahead, JPEGs
decoded by the CPU's pool and then by the GPU (`decode.jpeg: gpu`). It needs an NVIDIA GPU with its driver (nvidia-smi),
a torch and torchvision built for CUDA, a few GB of memory, room for the JPEGs (100 KB each) and for results in the
temporary folder, no network: weights are random. On an H200 with 16 cores:

    python -m pytest -k on_a_device tests/workers                       # first: is what it says right there?
    python -m tests.benchmarks.engine.gpu --device cuda --images 20000 --repeats 5
    python -m tests.benchmarks.engine.gpu --device cpu --images 32      # tries the script itself

The engine runs inside torch.autocast, beside a bare loop whose weights are bfloat16: a task's own `precision: bf16`
would be refused where random weights do not answer alike. Its models are opened in there too, so that the batch size
is searched in bfloat16; it is remembered as float32's, so the search is kept out of the machine's own cache. In the
loop the inputs lie on the device, and two batches are under way. Decoding on the GPU needs a torchvision built with
nvJPEG (the wheels for CUDA are); cards with a JPEG engine (A100, H100, H200) use it. On a CPU all of it is float32,
nothing is held against a target, and the GPU's idle share and its JPEG decoder have null figures.

Of the five tasks only reading text is on the CPU; its figure says how far the GPU is then from the bottleneck.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import torch
import torchvision

from tests.benchmarks.engine.images import jpegs
from tests.benchmarks.engine.line import say
from tests.benchmarks.engine.pipeline_side import FIVE_TASKS, RANDOM, open_pipeline, run_shards
from winnow_workers.ahead import REQUESTS
from winnow_workers.decode import DecodeLimits, decode
from winnow_workers.device_jpegs import DeviceJpegs, open_device_jpegs
from winnow_workers.jpeg_agreement import MOST_LEVELS, farthest_levels
from winnow_workers.limits import JpegDecoder
from winnow_workers.models.batch_size import best_size
from winnow_workers.models.fixed_batch import CPU_BATCH, CUDA_BATCH
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig

MODELS = ("resnet50", "vit_b_16")
SIDE_PX = 224
AT_ONCE = 2  # batches of the bare loop
DECODE_BATCH = 64
SAMPLE_MS = 200
OF_BARE = 0.90
IDLE = 0.10


def engine(
    paths: Sequence[Path], tasks: Sequence[TaskConfig], device: str, shard_items: int, jpeg: JpegDecoder = "cpu"
) -> tuple[float, float | None]:
    """Images per second from bytes to committed Parquet, and the share of the time in which the GPU was idle."""
    with tempfile.TemporaryDirectory() as scratch:
        with precision(device):
            pipeline, shards = open_pipeline(
                Path(scratch), paths, tasks, shard_items=shard_items, device=device, threads=torch.get_num_threads()
            )
        pipeline.fetcher.on_device = open_device_jpegs(jpeg, device)  # as the pipeline does for a spec that says so
        with busy_samples(device) as samples:
            seconds = run_shards(pipeline, shards, within=lambda: precision(device))
        pipeline.close()
    return len(paths) / seconds, 1.0 - statistics.mean(samples) if samples else None


def precision(device: str) -> AbstractContextManager[object]:
    """Of the engine: bfloat16 on a GPU, float32 elsewhere. Autocasting is each thread's own."""
    return torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()


@contextlib.contextmanager
def busy_samples(device: str) -> Iterator[list[float]]:
    """The share of time in which a kernel ran, sampled until the block ends; nothing on a CPU."""
    samples: list[float] = []
    if device != "cuda":
        yield samples
        return
    query = [
        "nvidia-smi",
        "--id=0",
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        f"-lms={SAMPLE_MS}",
    ]
    process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
    try:
        yield samples
    finally:
        process.terminate()
        told, _ = process.communicate()
        # the last line may be cut off
        samples += [int(line) / 100 for line in told.splitlines()[:-1] if line.strip().isdigit()]


def bare(name: str, device: str, images: int) -> float:
    """Images per second of the model alone, in the best of the engine's batch sizes, its answers brought back.

    The next batch is given to the device before the answers of the one before are waited for, as the engine does.
    """
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    module = getattr(torchvision.models, name)().eval().to(device, dtype, memory_format=torch.channels_last)
    rates = {}

    def rate_of(size: int) -> float:
        rates[size] = _bare_rate(module, torch.rand(size, 3, SIDE_PX, SIDE_PX, device=device, dtype=dtype), images)
        return rates[size]

    if device == "cpu":
        return rate_of(CPU_BATCH)
    return rates[best_size(rate_of, start=CUDA_BATCH)]


def _bare_rate(module: torch.nn.Module, inputs: torch.Tensor, images: int) -> float:
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    rounds = max(1, images // len(inputs))
    with torch.inference_mode():
        for _ in range(AT_ONCE):
            module(inputs).float().cpu()
        start = time.perf_counter()
        under_way: deque[tuple[torch.Tensor, torch.cuda.Event | None]] = deque()
        for _ in range(rounds):
            under_way.append(_begun(module, inputs))
            if len(under_way) == AT_ONCE:
                _collected(*under_way.popleft())
        while under_way:
            _collected(*under_way.popleft())
    return rounds * len(inputs) / (time.perf_counter() - start)


def _begun(module: torch.nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """A batch's answers, on their way to pinned memory of the host, and when they are there (None: now)."""
    answers = module(inputs).float()
    if answers.device.type == "cpu":
        return answers, None
    host = torch.empty(answers.shape, dtype=answers.dtype, pin_memory=True)
    host.copy_(answers, non_blocking=True)
    done = torch.cuda.Event()
    done.record()
    return host, done


def _collected(answers: torch.Tensor, done: torch.cuda.Event | None) -> torch.Tensor:
    if done is not None:
        done.synchronize()
    return answers


def gpu_decode_rate(paths: Sequence[Path]) -> float:
    """JPEGs per second, decoded at full size by the GPU's own decoder through torchvision."""
    files = [torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in paths]
    torchvision.io.decode_jpeg(files[:DECODE_BATCH], device="cuda")
    torch.cuda.synchronize()
    start = time.perf_counter()
    for first in range(0, len(files), DECODE_BATCH):
        torchvision.io.decode_jpeg(files[first : first + DECODE_BATCH], device="cuda")
    torch.cuda.synchronize()
    return len(files) / (time.perf_counter() - start)


def pool_decode_rate(paths: Sequence[Path], threads: int, on_device: DeviceJpegs | None) -> float:
    """JPEGs per second from bytes to pixels on the host for a model of 224 px, by so many threads at once."""
    files = [path.read_bytes() for path in paths]
    limits = DecodeLimits()

    def one(file: bytes) -> None:
        decode(file, needed_side_px=SIDE_PX, limits=limits, on_device=on_device)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, files[:DECODE_BATCH]))
        start = time.perf_counter()
        list(pool.map(one, files))
    return len(files) / (time.perf_counter() - start)


def measure_model(name: str, paths: Sequence[Path], device: str, shard_items: int, repeats: int, setup: str) -> None:
    """Two lines for each decoder: the rate beside the bare model's, and how long the GPU was idle."""
    task = TaskConfig("kind", "classify", resolve_model(f"torchvision/{name}", RANDOM))
    decoders: tuple[JpegDecoder, ...] = ("cpu", "gpu") if device == "cuda" else ("cpu",)
    for jpeg in decoders:
        ratios, rates, idle = [], [], []
        for _ in range(repeats):
            alone = bare(name, device, len(paths))
            rate, unused = engine(paths, [task], device, shard_items, jpeg)
            ratios.append(rate / alone)
            rates.append([round(rate, 1), round(alone, 1)])
            idle += [] if unused is None else [unused]
        what = f"10, {name}, JPEGs by the {jpeg}"
        bound = OF_BARE if device == "cuda" else None  # of a GPU; elsewhere it says nothing
        say(f"{what}, bytes to Parquet / bare model loop", ratios, at_least=bound, setup=setup, items_per_s=rates)
        say(f"{what}, share of the time in which the GPU was idle", idle, at_most=IDLE, setup=setup)


def measure_decoding(paths: Sequence[Path], device: str, repeats: int, setup: str) -> None:
    """How far the GPU's pixels are from the CPU's, and how many JPEGs a second each of them decodes."""
    on_device = open_device_jpegs("gpu", "cuda") if device == "cuda" else None
    threads = torch.get_num_threads()
    levels = None if on_device is None else farthest_levels(on_device)
    point = "10, mean difference of the GPU's JPEGs from the CPU's, in levels of 255"
    say(point, [] if levels is None else [levels], at_most=MOST_LEVELS, setup=setup)

    def rates(rate: Callable[[], float], *, is_measured: bool) -> list[float]:
        return [rate() for _ in range(repeats if is_measured else 0)]

    has_gpu = on_device is not None
    raw = rates(lambda: gpu_decode_rate(paths), is_measured=has_gpu)
    say("10, JPEGs of 800 x 600 a second, decoded on the GPU and left there", raw, setup=setup)
    ours = rates(lambda: pool_decode_rate(paths, REQUESTS, on_device), is_measured=has_gpu)
    say("10, JPEGs of 800 x 600 a second, from bytes to pixels by the GPU", ours, setup=setup)
    cpu = rates(lambda: pool_decode_rate(paths, threads, None), is_measured=True)
    say("10, JPEGs of 800 x 600 a second, from bytes to pixels by the CPU's pool", cpu, setup=setup)


def measure_five(paths: Sequence[Path], device: str, shard_items: int, repeats: int, setup: str) -> None:
    """Five tasks in one job: images a second, how long the GPU was idle, and its time beside that of five jobs.

    The last only on a GPU: what it is on a CPU is `five_tasks.py`'s.
    """
    fused, idle, ratios = [], [], []
    for _ in range(repeats):
        rate, unused = engine(paths, FIVE_TASKS, device, shard_items)
        fused.append(rate)
        if device == "cuda":
            alone_s = sum(1.0 / engine(paths, [task], device, shard_items)[0] for task in FIVE_TASKS)
            ratios.append(1.0 / rate / alone_s)
        idle += [] if unused is None else [unused]
    many = len(paths)
    say("10, five tasks fused, images a second from bytes to Parquet", fused, setup=setup, images=many)
    say("10, five tasks fused, share of the time in which the GPU was idle", idle, setup=setup, images=many)
    say("10, five tasks fused, time beside that of five jobs", ratios, setup=setup, images=many)


def where(device: str) -> str:
    """What a line says of the device."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name(0)}, bfloat16"
    return "on a CPU, where the script is only tried, float32"


def main() -> int:
    """Measure; 0 whether it holds or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda", "auto"], default="auto")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--shard-items", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        say("10, all of it", [], setup="torch sees no GPU here")
        return 0
    setup = f"{where(device)}, {options.images} JPEGs of 800 x 600, {torch.get_num_threads()} threads, no Ray"
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        paths = jpegs(Path(scratch) / "photos", options.images)
        for name in MODELS:
            measure_model(name, paths, device, options.shard_items, options.repeats, setup)
        measure_decoding(paths, device, options.repeats, setup)
        few = paths[: max(1, len(paths) // 4)]  # reading text is on the CPU, and slow
        measure_five(few, device, options.shard_items, options.repeats, setup)
    return 0


if __name__ == "__main__":
    sys.exit(main())
