"""Does a process keep what it frees? Page faults tell: blocks that go back to the system are mapped anew."""

import subprocess
import sys

import pytest

from winnow_workers.allocator import ENVIRON

# 40 rounds of as many bytes as a batch's activations take, in a thread as an actor works in
PROGRAM = """
import resource, sys, threading
from winnow_workers.allocator import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
def rounds(count):
    for _ in range(count):
        blocks = [bytearray(b"x") * (8 << 20) for _ in range(4)]
def work():
    rounds(3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    rounds(40)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def faults(*arguments: str, environ: dict[str, str] | None = None) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={"PYTHONPATH": ":".join(sys.path), "MALLOC_TRIM_THRESHOLD_": "131072", **(environ or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_keep_freed_memory__the_same_pages_serve_again() -> None:
    as_ever = faults()
    assert as_ever > 10_000
    assert faults("keep") < as_ever / 20
    assert faults(environ=ENVIRON) < as_ever / 20
