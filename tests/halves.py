"""How do all tests run on two cores? In two pytest processes side by side: a test keeps one core busy, or waits.

`python -m tests.halves [OPTION...]` gives its options to both. What one half says is shown as it says it, what the
other said when it has ended; the coverage of both is added up. A server starts in whichever half asks for it.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
# what starts `winnow`, Ray, or trains models; the other half is everything else, whatever is added
BEHIND = ("tests/e2e", "tests/faults", "tests/jobs")
# of these: the halves then take about as long
_OF_JOBS = ("commands", "consensus", "evaluation", "explain", "head_learning", "test_quantize_trained.py", "verify")
BEFORE = tuple(f"tests/jobs/{name}" for name in _OF_JOBS)
NOTHING_COLLECTED = 5
END_S = 60.0  # for a half to end its servers


def main(options: list[str]) -> int:
    """0 if all tests passed and enough is covered; otherwise an exit code of pytest's or coverage's."""
    start = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers of the tests end as with Ctrl-C
    with tempfile.TemporaryDirectory(prefix="winnow-tests-") as scratch:
        said, data = Path(scratch) / "said", [Path(scratch) / name for name in ("behind", "before")]
        with said.open("wb") as log:
            behind = _pytest((*BEHIND, *(f"--ignore={folder}" for folder in BEFORE)), options, data[0], log)
            try:
                code = _pytest((*_others(), *BEFORE), options, data[1], None).wait()
                codes = [code, behind.wait()]
            finally:
                _end(behind)
        sys.stdout.write(f"\n{' '.join(BEHIND)}:\n{said.read_text(encoding='utf-8', errors='replace')}")
        sys.stdout.write(f"all tests, both halves: {time.monotonic() - start:.0f} s\n")
        sys.stdout.flush()
        failed = [code for code in codes if code not in (0, NOTHING_COLLECTED)]
        if failed:
            return failed[0]
        _coverage("combine", "--quiet", *(str(path) for path in data if path.exists()))
    return _coverage("report")


def _others() -> list[str]:
    """What lies in `tests` beside BEHIND, by name: pytest takes no folder inside of one that it ignores."""
    found = [path for path in (ROOT / "tests").iterdir() if path.is_dir() or path.name.startswith("test_")]
    names = sorted(str(path.relative_to(ROOT)) for path in found if path.name != "__pycache__")
    return [name for name in names if name not in BEHIND]


def _pytest(
    arguments: tuple[str, ...], options: list[str], data: Path, log: IO[bytes] | None
) -> "subprocess.Popen[bytes]":
    """A half; what it covers goes to `data`, and is judged together with the other half's."""
    command = [sys.executable, "-m", "pytest", *arguments, "--cov", "--cov-report=", "--cov-fail-under=0", *options]
    environ = os.environ | {"COVERAGE_FILE": str(data)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=log, stderr=None if log is None else subprocess.STDOUT
    )


def _end(half: "subprocess.Popen[bytes]") -> None:
    """As Ctrl-C would, if it has not ended: its servers are ended too."""
    if half.poll() is not None:
        return
    half.send_signal(signal.SIGINT)
    try:
        half.wait(END_S)
    except subprocess.TimeoutExpired:
        half.kill()


def _coverage(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "coverage", *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
