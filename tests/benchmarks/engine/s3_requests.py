"""How many requests does a run make of an S3 store, for each image and each shard? Counted by a proxy in front of one.

Two sizes of run tell what a shard costs from what a run costs; a night after the larger one tells what every earlier
shard costs. These are inputs of `scale_model`.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.benchmarks.engine.line import say
from tests.conftest import use_s3
from tests.e2e.winnow import photographs, winnow, write_spec
from tests.servers.faulty_s3 import Handled, faulty_s3
from tests.servers.s3 import S3Server, s3_server

SHARD_ITEMS = 8
SMALL, LARGE = 4, 24  # shards


def kind_of(handled: Handled) -> str:
    """Which of S3's two prices a request has, and whether it is for an image: "GET image", "GET", "PUT" or "LIST"."""
    request = handled.request
    if not request.key:
        return "LIST"
    if re.match(r"photos-\d+/", request.key):
        return "GET image" if request.method == "GET" else request.method
    return "GET" if request.method in ("GET", "HEAD") else "PUT"


def per_shard(small: Counter[str], large: Counter[str], shards: int) -> dict[str, float]:
    """Requests of each kind that one of `shards` more shards took more."""
    return {kind: round((large[kind] - small[kind]) / shards, 3) for kind in sorted(large | small)}


def measure() -> None:
    """One line."""
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch, s3_server() as server:
        folder = Path(scratch)
        use_s3(server, folder / "absent", patch)
        client = boto3.session.Session().client("s3")
        client.create_bucket(Bucket="scale")
        runs = {shards: _runs(server, client, folder, shards, patch) for shards in (SMALL, LARGE)}
    more = LARGE - SMALL
    first, later = (per_shard(runs[SMALL][turn], runs[LARGE][turn], more) for turn in (0, 1))
    say(
        "7, requests to S3 for a shard of a run, without its images'",
        [sum(count for kind, count in first.items() if kind != "GET image")],
        setup=f"{SHARD_ITEMS} images a shard, {LARGE} shards beside {SMALL}, counted by a proxy",
        first_run_per_shard=first,
        night_per_earlier_shard=later,
        image_gets_per_item=round(first["GET image"] / SHARD_ITEMS, 3),
    )


def _runs(
    server: S3Server, client: Any, folder: Path, shards: int, patch: pytest.MonkeyPatch
) -> Sequence[Counter[str]]:
    """The requests of a first run over so many shards, and of the one after it with a single new image."""
    own = folder / str(shards)
    own.mkdir()
    spec = write_spec(
        own, corpus=f"s3://scale/photos-{shards}/", output=f"s3://scale/out-{shards}", shard_items=SHARD_ITEMS
    )
    counts = []
    for first, count in ((0, shards * SHARD_ITEMS), (shards * SHARD_ITEMS, 1)):
        for path in photographs(own / "photos", count, first=first):
            client.put_object(Bucket="scale", Key=f"photos-{shards}/{path.name}", Body=path.read_bytes())
        with faulty_s3(server, lambda _: None) as proxy:
            patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
            ended = winnow("run", spec, "--json", cwd=own)
            if ended.code != 0:
                raise SystemExit(ended.err)
            counts.append(Counter(kind_of(handled) for handled in proxy.log))
        patch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    return counts


def main() -> int:
    """Measure; 0 whether it holds or not: the lines say it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        measure()
    except pytest.skip.Exception as reason:
        say("7, requests to S3 for a shard of a run, without its images'", [], setup=str(reason))
    return 0


if __name__ == "__main__":
    sys.exit(main())
