"""Jobs of a task of vectors and of a head on them, worked through by a real pipeline in this process, without Ray."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.jobs.whole_nights import rows
from tests.workers.pipelines import save_image
from winnow_jobs.backfill import Backfill, backfilled
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec, resolve_spec
from winnow_jobs.spec_source import load_spec
from winnow_workers.heads import Embedding, Head, Linear, save_head
from winnow_workers.models import fingerprint

LABELS = ("cat", "dog", "owl")
SPEC = """\
name: pets
corpus: {{uri: "{corpus}", include: ["*.png"], same_content: {same_content}}}
output: "{output}"
ledger: sqlite:///ledger.db
tasks:
  - {{name: look, operator: embed, model: builtin/fingerprint}}
{tasks}review: {review}
run: {{shard_items: 4, device: cpu}}
"""


def spec_of(
    folder: Path,
    *tasks: str,
    out: str = "out",
    corpus: str = "corpus",
    same_content: str = "each",
    review: str = "{}",
) -> Path:
    """A job with these tasks (as YAML) beside `look`."""
    path = folder / f"{out.rpartition('/')[2]}.yaml"
    lines = "".join(f"  - {{{one}}}\n" for one in tasks)
    path.write_text(
        SPEC.format(corpus=corpus, output=out, tasks=lines, same_content=same_content, review=review), encoding="utf-8"
    )
    return path


def job(folder: Path, *tasks: str, **options: Any) -> ResolvedSpec:
    return resolve_spec(load_spec(spec_of(folder, *tasks, **options), {}))


def head_task(folder: Path, seed: int, name: str = "kind", **more: Any) -> str:
    """A task that classifies the vectors of `look` by a drawn head."""
    file = write_head(folder, seed)
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    return f"name: {name}, operator: classify, vectors: look, model: {file.name}{extra}"


def write_head(folder: Path, seed: int, **changes: Any) -> Path:
    file = folder / f"head-{seed}.safetensors"
    file.write_bytes(save_head(drawn_head(folder, seed, **changes)))
    return file


def drawn_head(folder: Path, seed: int, *, dimensions: int = fingerprint.LENGTH, task_digest: str = "") -> Head:
    """A linear head with drawn weights for the vectors that `look` makes."""
    digest = task_digest or job(folder, out="alone").task("look").digest
    random = np.random.default_rng(seed)
    weight = random.normal(0, 5, (len(LABELS), dimensions)).astype(np.float32)
    embedding = Embedding(task="look", task_digest=digest, dimensions=dimensions)
    return Head(LABELS, embedding, Linear(weight, random.normal(0, 0.1, len(LABELS)).astype(np.float32)))


def photographs(folder: Path, count: int = 10, name: str = "corpus") -> list[Path]:
    return [save_image(folder / name / f"{number:02d}.png", seed=number) for number in range(count)]


def said(resolved: ResolvedSpec, run_id: str, *without: str) -> list[dict[str, Any]]:
    """The rows of a run, without what differs from run to run."""
    left_out = {"run_id", "shard", *without}
    return [{name: value for name, value in row.items() if name not in left_out} for row in rows(resolved, run_id)]


def selected(resolved: ResolvedSpec, what: Backfill) -> dict[str, Any]:
    return backfilled(Selection(), resolved, what).model_dump(exclude_defaults=True)


def spoil(paths: Sequence[Path]) -> None:
    """Other bytes, in files that are listed as before."""
    for path in paths:
        state = path.stat()
        path.write_bytes(b"\0" * state.st_size)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
