"""How fast is `winnow run` over a corpus? Whole from process start, steady by when the shards' objects appeared."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import boto3

from tests.benchmarks.engine.rates import Rate, steady_rate
from winnow_jobs.plan import SHARD_ITEMS_MIN

SHARDS_LEAST = 20  # so that enough are left once those of start and end are left out
WINNOW = Path(sys.executable).parent / "winnow"
SPEC = """\
name: speed
corpus: {corpus}
output: {output}
ledger: sqlite:///{folder}/ledger.db
tasks:
  - {{name: kind, operator: classify, model: torchvision/{model}, weights: {{random: 1}}}}
run: {{shard_items: {shard_items}}}
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One task over one corpus; `corpus` and `output` are folders or s3:// prefixes, the output not yet there."""

    model: str
    items: int
    shard_items: int
    corpus: str
    output: str

    @property
    def actors(self) -> int:
        """As many as cores."""
        return len(os.sched_getaffinity(0))


def shard_items(items: int, most: int) -> int:
    """How large the shards of a comparison over so many items are: a multiple of 16, as `auto` makes them."""
    return min(most, max(1, items // SHARDS_LEAST // SHARD_ITEMS_MIN) * SHARD_ITEMS_MIN)


def write_spec(job: Job, folder: Path) -> Path:
    """The job as a file in `folder`, where its ledger will be."""
    spec = folder / "job.yaml"
    spec.write_text(
        SPEC.format(corpus=job.corpus, output=job.output, folder=folder, model=job.model, shard_items=job.shard_items),
        encoding="utf-8",
    )
    return spec


def winnow_rate(job: Job, folder: Path) -> Rate:
    """Run the job once; spec and ledger go to `folder`."""
    spec = write_spec(job, folder)
    start = time.monotonic()
    subprocess.run([WINNOW, "run", spec, "--json"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole = job.items / (time.monotonic() - start)
    times = [at for at in shard_times_s(job.output) for _ in range(job.shard_items)]
    # every actor's first shard is over, and nobody has run out of shards
    return Rate(steady_rate(times, leave_out=job.actors * job.shard_items), whole)


def shard_times_s(output: str, run_id: str = "0001") -> Sequence[float]:
    """When each shard's object appeared, in seconds since the epoch, sorted."""
    place = urlsplit(output)
    if place.scheme != "s3":
        return sorted(path.stat().st_mtime for path in Path(output, "runs", run_id, "results").glob("*.parquet"))
    # Ceph tells milliseconds; S3 itself tells whole seconds only
    pages = boto3.session.Session().client("s3").get_paginator("list_objects_v2")
    prefix = f"{place.path.lstrip('/')}/runs/{run_id}/results/"
    listed = pages.paginate(Bucket=place.netloc, Prefix=prefix)
    return sorted(one["LastModified"].timestamp() for page in listed for one in page.get("Contents", ()))
