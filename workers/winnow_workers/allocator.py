"""Why does a process that frees memory keep it? Because the next batch wants as much again, page by page.

glibc gives large blocks, and a large free top of the heap, back to the system at once; asked for again, every page of
them is cleared and mapped anew. Measured on one core: MobileNetV3-small in batches of 8 took 480 page faults an image,
and 1.3 times as long with its decoding as it does without them.
"""

import ctypes

ARENAS = 1  # heaps; each keeps what is free at its top, and threads that allocate at once are few
MMAP_BYTES = 32 * 2**20  # blocks from this size on go back to the system when they are freed, such as a large image
TRIM_BYTES = 256 * 2**20  # of the heap's top that may stay free
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h

# the same for processes that are yet to start, threads and all
ENVIRON = {
    "MALLOC_ARENA_MAX": str(ARENAS),
    "MALLOC_MMAP_THRESHOLD_": str(MMAP_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(TRIM_BYTES),
}


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, up to TRIM_BYTES; whether its C library can be told."""
    tell = getattr(ctypes.CDLL(None), "mallopt", None)
    if tell is None:
        return False
    settings = ((_ARENA_MAX, ARENAS), (_MMAP_THRESHOLD, MMAP_BYTES), (_TRIM_THRESHOLD, TRIM_BYTES))
    told = [tell(number, value) for number, value in settings]
    return told == [1] * len(settings)
