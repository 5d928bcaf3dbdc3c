"""Which scripts make up `make bench` and `make bench-long`, and did all of them run? One failing point stops no other.

A script that runs prints a JSON line for each of its points and ends with 0, whether they hold or not. Exit code 1 if
one did not end so, or not in time.
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.processes import end_session

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Script:
    """One script of this folder with its arguments, and when it is given up."""

    name: str
    arguments: tuple[str, ...] = ()
    limit_s: float = 1200.0


# 15 minutes in all on a quiet machine of two cores; by point of the issue
SHORT = (
    Script("tax", ("--only", "decode-bound (MobileNetV3-small), folder", "--share", "0.5")),
    Script("tax", ("--only", "decode-bound (MobileNetV3-small), s3", "--share", "0.5")),
    Script("tax", ("--only", "model-bound (ResNet-50), folder", "--share", "0.5")),
    Script("tax", ("--only", "model-bound (ResNet-50), s3", "--share", "0.5")),
    Script("peers.compare", ("--only", "decode-bound", "--images", "1200")),
    Script("peers.compare", ("--only", "model-bound", "--heavy-images", "320")),
    Script("five_tasks", ("--images", "16")),
    Script("decoding", ("--repeats", "3", "--images", "100", "--train", "400", "--test", "600")),
    Script("decode_pool"),
    Script("faults", ("--kills", "8")),
    Script("faults", ("--peer",)),
    Script("network"),
    Script("poison", ("--short",)),
    Script("planning"),
    Script("routing"),
    Script("driver"),
    Script("night", ("--images", "800")),
    Script("s3_requests"),
    Script("scale"),
    Script("memory", ("--images", "400")),
    Script("start", ("--repeats", "1")),
    Script("gpu", ("--images", "16")),
)
LONG_LIMIT_S = 4 * 3600.0
LONG = (
    Script("tax", ("--only", "folder", "--repeats", "5"), LONG_LIMIT_S),
    Script("tax", ("--only", "s3", "--repeats", "5"), LONG_LIMIT_S),
    Script("peers.compare", ("--only", "decode-bound", "--images", "6000", "--repeats", "5"), LONG_LIMIT_S),
    Script("peers.compare", ("--only", "model-bound", "--heavy-images", "1500", "--repeats", "5"), LONG_LIMIT_S),
    Script("five_tasks", ("--images", "200", "--repeats", "5"), LONG_LIMIT_S),
    Script("decoding", ("--repeats", "9"), LONG_LIMIT_S),
    Script("decode_pool", ("--images", "2000", "--repeats", "5"), LONG_LIMIT_S),
    Script("formats"),
    Script("faults", ("--peer",), LONG_LIMIT_S),
    Script("network", ("--images", "120", "--seeds", "3", "--stall-s", "30"), LONG_LIMIT_S),
    Script("poison", (), LONG_LIMIT_S),
    Script("planning", ("--items", "10000000"), LONG_LIMIT_S),
    Script("routing", ("--items", "5000000"), LONG_LIMIT_S),
    Script("driver", ("--shards", "100000", "--simulated", "500", "--repeats", "3"), LONG_LIMIT_S),
    Script("night", ("--images", "6000", "--repeats", "5"), LONG_LIMIT_S),
    Script("memory", ("--images", "20000"), LONG_LIMIT_S),
    Script("start", ("--repeats", "5"), LONG_LIMIT_S),
    Script("gpu", ("--images", "20000", "--repeats", "5", "--device", "cuda"), LONG_LIMIT_S),
)


def run(scripts: Sequence[Script]) -> list[str]:
    """Run one after the other; what went wrong, with the command that does it again."""
    failures = []
    for script in scripts:
        command = ["-m", f"tests.benchmarks.engine.{script.name}", *script.arguments]
        start = time.monotonic()
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, start_new_session=True)
        try:
            ended = f"ended with {process.wait(script.limit_s)}"
        except subprocess.TimeoutExpired:
            ended = f"was given up after {script.limit_s:.0f} s"
        finally:
            end_session(process.pid)  # a Ray cluster, or a server, that it left behind
            process.wait()
        sys.stderr.write(f"{script.name}: {ended}, {time.monotonic() - start:.0f} s\n")
        if ended != "ended with 0":
            failures.append(f"{script.name} {ended}; again: python {shlex.join(command)}")
    return failures


def main() -> int:
    """Run a form; 0 if every script ran to its end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=["short", "long"])
    failures = run(SHORT if parser.parse_args().form == "short" else LONG)
    for failure in failures:
        sys.stderr.write(f"{failure}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
