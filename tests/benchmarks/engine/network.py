"""What does a bad network to S3 do to a run? `winnow run` over a bucket, behind a proxy that spoils requests by a seed.

Refusals, resets before and after a request was done, success that is told as failure, answers that break off, are cut
short or damaged, requests that arrive damaged: more than a quarter of all requests. With `--stall-s`, which is best
longer than the client's time-out of 20 s, stalls as well. Every run must have the rows of one over the server itself.

    python -m tests.benchmarks.engine.network --seeds 5 --stall-s 30
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import boto3
import pytest

from tests.benchmarks.engine.line import say
from tests.conftest import use_s3
from tests.e2e.winnow import photographs, winnow, write_spec
from tests.faults.over_s3 import RATES, faults, rows
from tests.faults.verdict import difference
from tests.servers.faulty_s3 import Kind, faulty_s3
from tests.servers.s3 import S3Server, s3_server
from winnow_jobs.runs import Runs
from winnow_jobs.verify.run import verify_run
from winnow_storage.blobs import open_store
from winnow_storage.uri import parse

BUCKET = "network"
SHARD_ITEMS = 4
GIVE_UP_S = 1800.0  # with stalls an actor stands still for minutes
STALLS = (Kind.STALL_BEFORE, Kind.STALL_AFTER)
POINT = "5, runs over a bad network to S3 with rows that are lost, doubled or others"


def measure(images: int, seeds: int, stall_s: float) -> None:
    """One line."""
    rates = {kind: rate for kind, rate in RATES.items() if stall_s or kind not in STALLS}
    struck, harmed = Counter[str](), dict[int, list[str]]()
    requests = 0
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch, s3_server() as server:
        folder = Path(scratch)
        use_s3(server, folder / "absent", patch)
        client = boto3.session.Session().client("s3")
        client.create_bucket(Bucket=BUCKET)
        for path in photographs(folder / "photos", images):
            client.put_object(Bucket=BUCKET, Key=f"photos/{path.name}", Body=path.read_bytes())
        good = _run(server, folder, "good")
        for seed in range(1, seeds + 1):
            with faulty_s3(server, faults(seed, rates=rates, stall_s=stall_s)) as proxy:
                bad = _run(server, folder, f"bad-{seed}", endpoint_url=proxy.endpoint_url)
                struck.update(proxy.done)
                requests += len(proxy.log)
            if problems := [*_unsound(bad), *difference(rows(bad), rows(good))]:
                harmed[seed] = problems
    say(
        POINT,
        [float(len(harmed))],
        at_most=0,
        setup=f"{images} images, shards of {SHARD_ITEMS}, {seeds} runs, stalls of {stall_s:g} s, a proxy before a real "
        "server",
        requests=requests,
        faults=dict(sorted(struck.items())),
        harmed=harmed,
    )


def _run(server: S3Server, folder: Path, name: str, *, endpoint_url: str = "") -> str:
    """Run the job to its end; its output."""
    own = folder / name
    own.mkdir()
    output = f"s3://{BUCKET}/{name}"
    spec = write_spec(own, corpus=f"s3://{BUCKET}/photos/", output=output, shard_items=SHARD_ITEMS)
    environ = {"AWS_ENDPOINT_URL": endpoint_url or server.endpoint_url}
    ended = winnow("run", spec, "--json", cwd=own, environ=environ, deadline_s=GIVE_UP_S)
    if ended.code != 0:
        raise SystemExit(f"{name} ended with {ended.code}: {ended.err}")
    return output


def _unsound(output: str) -> list[str]:
    check = verify_run(Runs(open_store(parse(output))), "0001")
    return [str(finding) for finding in check.findings]


def main() -> int:
    """Measure; 0 whether it holds or not: the line says it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--stall-s", type=float, default=0.0, help="0: without stalls")
    options = parser.parse_args()
    try:
        measure(options.images, options.seeds, options.stall_s)
    except pytest.skip.Exception as reason:
        say(POINT, [], at_most=0, setup=str(reason))
    return 0


if __name__ == "__main__":
    sys.exit(main())
