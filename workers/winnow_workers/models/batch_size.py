"""How many images does a device take at once? Doubled while that pays, measured once per machine and remembered.

Kept in `$XDG_CACHE_HOME/winnow/batch_sizes`; whoever measures first decides for all processes of the machine that come
after, so that they fill their batches alike. Where memory runs out at that size all the same, the smaller one is kept
in its place. Removing the folder measures again.
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from winnow_storage.ids import digest_value
from winnow_workers.models.cache import batch_sizes_folder
from winnow_workers.models.fixed_batch import FixedBatch

if TYPE_CHECKING:
    import torch

GAIN = 1.05  # below that a larger batch is not worth its memory
MOST = 256
CPU_MOST = 16  # twice the least; half of an image's cost hung on it (docs/benchmarks.md), and more was never faster
CPU_WORTH_IMAGES = 4096  # of a run: to try both sizes takes the time of a hundred images
_ROUNDS = 3


def best_size(rate_of: Callable[[int], float | None], *, start: int, most: int = MOST) -> int:
    """Double `start` while images per second grow by GAIN; `rate_of` gives None where the device has no room."""
    size, rate = start, rate_of(start)
    while rate is not None and size * 2 <= most:
        larger = rate_of(size * 2)
        if larger is None or larger < rate * GAIN:
            break
        size, rate = size * 2, larger
    return size


def measured_rate(batch: FixedBatch, image: "torch.Tensor", size: int) -> float | None:
    """Images per second of a network in batches of `size`, copies included; None if the device has no room for them.

    The batch's own size stays as it was.
    """
    import torch

    before, batch.size = batch.size, size
    try:
        for ticket in [batch.submit([image] * size) for _ in range(2)]:  # what is compiled and allocated once
            ticket.collect()
        start = time.perf_counter()
        rounds = _ROUNDS if batch.device == "cuda" else 1
        for _ in range(rounds):
            for ticket in [batch.submit([image] * size) for _ in range(2)]:
                ticket.collect()
        return 2 * rounds * size / (time.perf_counter() - start)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    finally:
        batch.size = before


def remembered_size(key: dict[str, object], measure: Callable[[], int]) -> int:
    """What was measured for that key on this machine, else what `measure` gives, kept from then on.

    A cache that cannot be written is no error: it is then measured each time.
    """
    place = _place(key)
    known = _read(place)
    if known is not None:
        return known
    size = measure()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, prefix=".part-", suffix=".json") as file:
            json.dump({**key, "size": size}, file)
            file.flush()
            try:
                os.link(file.name, place)
            except FileExistsError:
                if _read(place) is None:  # damaged
                    place.write_text(json.dumps({**key, "size": size}))
    except OSError:
        return size
    return _read(place) or size


def known_size(key: dict[str, object]) -> int | None:
    """What was measured for that key on this machine; None if nothing was."""
    return _read(_place(key))


def processor_name() -> str:
    """Of the CPU, as its maker calls it where the system says so."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _place(key: dict[str, object]) -> Path:
    return batch_sizes_folder() / f"{digest_value(key)[:32]}.json"


def remember_smaller(key: dict[str, object], size: int) -> None:
    """Memory ran out at what is remembered for that key: whoever comes after begins with `size`.

    As in `remembered_size`, a cache that cannot be written is no error.
    """
    place = _place(key)
    known = _read(place)
    if known is not None and known <= size:  # another process ran out before
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".part-{uuid4().hex}.json")
        part.write_text(json.dumps({**key, "size": size}))
        part.replace(place)
    except OSError:
        return


def _read(place: Path) -> int | None:
    try:
        size = json.loads(place.read_text())["size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size if isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= MOST else None
