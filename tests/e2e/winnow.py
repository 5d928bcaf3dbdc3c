"""The `winnow` command as a person starts it, and a small corpus to run it over."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from coverage import Coverage
from PIL import Image

WINNOW = Path(sys.executable).parent / "winnow"
TREE = Path(__file__).parents[2]
RUN_MEASURED = [sys.executable, "-m", "coverage", "run", f"--rcfile={os.devnull}", "--parallel-mode"]
DEADLINE_S = 240.0

SPEC = """\
name: {name}
corpus: {corpus}
output: {output}
ledger: sqlite:///{ledger}
tasks:
  - {{name: vector, operator: embed, model: builtin/fingerprint}}
  - {{name: kind, operator: classify, model: torchvision/squeezenet1_1, weights: {{random: 1}}, labels: [a, b, c]}}
run: {{actors: 1, shard_items: {shard_items}}}
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        """The one JSON record on stdout."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self
        return json.loads(lines[0])


def winnow(
    *arguments: str | Path,
    cwd: Path,
    environ: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    deadline_s: float = DEADLINE_S,
) -> Ended:
    """Run a command to its end, started by `before` where that is given."""
    done = subprocess.run(
        [*before, *measured(), WINNOW, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def measured() -> list[str]:
    """What goes before a command so that it counts as covered where the tests do; Ray's own processes do not.

    Those are killed in the end and could save nothing, but would be slowed down; the tests of the pipeline run what
    they run.
    """
    tests = Coverage.current()
    if tests is None:
        return []
    data = f"--data-file={Path(tests.config.data_file).resolve()}"
    sources = ",".join(str(TREE / folder) for folder in tests.config.source_dirs)
    # pyproject.toml names them as seen from the tree, and the command has a folder of its own
    return [*RUN_MEASURED, f"--source={sources}", data]


def start(*arguments: str | Path, cwd: Path) -> "subprocess.Popen[str]":
    """Start a command and leave it running."""
    return subprocess.Popen(
        [WINNOW, *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def photographs(folder: Path, count: int, *, first: int = 0) -> list[Path]:
    """Small images that differ: smooth noise, JPEG and PNG by turns."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(first, first + count):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        path = folder / f"{number:04d}.{'jpg' if number % 2 else 'png'}"
        Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC).save(path)
        made.append(path)
    return made


def write_spec(
    folder: Path, *, corpus: str | Path = "photos", output: str | Path = "out", shard_items: int = 8, more: str = ""
) -> Path:
    """A job with two tasks; its ledger is in the same folder."""
    text = SPEC.format(name="test", corpus=corpus, output=output, ledger=folder / "ledger.db", shard_items=shard_items)
    path = folder / "job.yaml"
    path.write_text(text + more, encoding="utf-8")
    return path
