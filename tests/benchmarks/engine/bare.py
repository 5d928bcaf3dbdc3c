"""How fast is a loop of the same decoder and model with nothing around it? And how fast is each of the two alone?

As many processes as cores, one torch thread and a share of the files each: no Ray, no digest, no rows, nothing
written. From S3 each process has as many requests on their way, in threads, as an actor's pipeline (`ahead.REQUESTS`),
and its threads hand as many images over together (`ahead.GROUP`).
"""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.benchmarks.engine.batch import batch_size
from tests.benchmarks.engine.rates import Rate, steady_rate
from winnow_workers.ahead import GROUP, REQUESTS

if TYPE_CHECKING:
    import torch

Part = Literal["both", "decode", "model"]


class BareModel:
    """A torchvision classifier as the engine runs it on CPUs: batch normalisations folded, channels last."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        import torch
        import torchvision

        from winnow_workers.allocator import keep_freed_memory
        from winnow_workers.decode import DecodeLimits
        from winnow_workers.models.architectures import default_preprocessing
        from winnow_workers.models.fold import fold_batch_norms
        from winnow_workers.models.preprocess import needed_side_px
        from winnow_workers.models.traced import Traced

        keep_freed_memory()  # as the engine does, or peers whose processes hold memory would be faster for that alone
        torch.set_num_threads(threads)
        module = getattr(torchvision.models, name)().eval().to(memory_format=torch.channels_last)
        fold_batch_norms(module)  # as the engine does, and so is recording: engines are compared, not models
        self._module = Traced(module)
        self._preprocessing = default_preprocessing(f"torchvision/{name}")
        self._side_px = needed_side_px(self._preprocessing)
        self._limits = DecodeLimits()

    def prepare(self, file: bytes) -> "torch.Tensor":
        """(3, height, width) float32 of a file, by the engine's decoder."""
        from winnow_workers.decode import decode
        from winnow_workers.models.preprocess import to_tensor

        return to_tensor(decode(file, needed_side_px=self._side_px, limits=self._limits).pixels, self._preprocessing)

    def predict(self, inputs: "Sequence[torch.Tensor]") -> list[tuple[int, float]]:
        """The label and the score of each input, in batches of `batch_size`."""
        import torch

        answers: list[tuple[int, float]] = []
        size = batch_size()
        for start in range(0, len(inputs), size):
            batch = torch.stack(list(inputs[start : start + size])).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                best = self._module(batch).softmax(1).max(1)
            answers += zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return answers


def bare_rate(model: str, uris: Sequence[str], part: Part = "both") -> Rate:
    """Of the loop over all cores."""
    cores = len(os.sched_getaffinity(0))
    start = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        ended = pool.starmap(_loop, [(model, list(uris[number::cores]), part) for number in range(cores)])
    whole = len(uris) / (time.monotonic() - start)
    begun = max(times[0] for times in ended)  # every process has its first batch behind it
    done = [at for times in ended for at in times if at >= begun]
    return Rate(steady_rate(done, leave_out=batch_size() * cores), whole)


def _loop(model: str, uris: Sequence[str], part: Part) -> list[float]:
    """When each image was done (monotonic seconds)."""
    bare = BareModel(model)
    times: list[float] = []
    inputs: list[torch.Tensor] = []
    one: torch.Tensor | None = None
    for number, file in enumerate(_files(uris), start=1):
        if one is None or part != "model":
            one = bare.prepare(file)
        inputs.append(one)
        if len(inputs) < batch_size() and number < len(uris):
            continue
        if part != "decode":
            bare.predict(inputs)
        times += [time.monotonic()] * len(inputs)
        inputs = []
    return times


def _files(uris: Sequence[str]) -> Iterator[bytes]:
    if not uris[0].startswith("s3://"):
        yield from (Path(uri).read_bytes() for uri in uris)
        return
    read = s3_reader(uris[0].split("/")[2])
    waiting: deque[Future[list[bytes]]] = deque()
    with ThreadPoolExecutor(REQUESTS) as pool:
        for first in range(0, len(uris), GROUP):
            waiting.append(pool.submit(lambda group: list(map(read, group)), uris[first : first + GROUP]))
            if len(waiting) == REQUESTS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def s3_reader(bucket: str) -> Callable[[str], bytes]:
    """Reads objects of a bucket by their URIs, through the client that costs least CPU; settings from AWS_*."""
    from obstore.store import S3Store

    store = S3Store(bucket, client_options={"allow_http": True})
    return lambda uri: bytes(store.get(uri.removeprefix(f"s3://{bucket}/")).bytes())
