"""Where does a speed benchmark read and write? The same JPEGs in a folder, and in a bucket of the tests' S3 server."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import boto3
import pytest

from tests.benchmarks.engine.images import jpegs
from tests.conftest import use_s3
from tests.servers.s3 import s3_server

Where = Literal["folder", "s3"]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Images as a job names them (`uri`) and one by one (`uris`), and a place for outputs."""

    uri: str
    uris: tuple[str, ...]
    output: str

    def output_of(self, turn: int) -> str:
        """A place of this turn's own; what an earlier one left there is removed if it is a folder."""
        place = f"{self.output}-{turn}"
        if not place.startswith("s3://"):
            shutil.rmtree(place, ignore_errors=True)
        return place


@contextlib.contextmanager
def corpus_in(scratch: Path, count: int, where: Where) -> Iterator[Corpus]:
    """`count` JPEGs of 800 x 600; the server ends with the block.

    Raises:
        pytest.skip.Exception: the S3 server's programs are not installed.
    """
    paths = jpegs(scratch / "photos", count)
    if where == "folder":
        yield Corpus(str(scratch / "photos"), tuple(map(str, paths)), str(scratch / "out"))
        return
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        use_s3(server, scratch / "absent", patch)
        patch.setenv("AWS_REGION", "us-east-1")  # what obstore reads
        bucket = f"winnow-{uuid.uuid4().hex[:12]}"
        client: Any = boto3.session.Session().client("s3")
        client.create_bucket(Bucket=bucket)
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(
                    lambda path: client.put_object(Bucket=bucket, Key=f"photos/{path.name}", Body=path.read_bytes()),
                    paths,
                )
            )
        client.close()
        uris = tuple(f"s3://{bucket}/photos/{path.name}" for path in paths)
        yield Corpus(f"s3://{bucket}/photos/", uris, f"s3://{bucket}/out")
