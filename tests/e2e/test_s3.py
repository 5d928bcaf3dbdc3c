"""The same job over a bucket of a real S3 server as over a folder: same outcomes, same predictions, by key."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.e2e.winnow import photographs, winnow, write_spec
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_results
from winnow_storage.uri import parse

COMMON = ["key", "content_sha256", "bytes", "format", "width", "height", "outcome", "reason", "failed_tasks"]
SAME = [*COMMON, "vector", "kind"]


@pytest.fixture
def buckets(s3_client: Any, s3_bucket: str, tmp_path: Path) -> str:
    photos = photographs(tmp_path / "photos", 20)
    (tmp_path / "photos/näme with spaces +%20.png").write_bytes(photos[0].read_bytes())
    (tmp_path / "photos/sub").mkdir()
    (tmp_path / "photos/sub/empty.jpg").write_bytes(b"")
    for path in (tmp_path / "photos").rglob("*.*"):
        key = f"corpus/{path.relative_to(tmp_path / 'photos').as_posix()}"
        s3_client.put_object(Bucket=s3_bucket.removeprefix("s3://"), Key=key, Body=path.read_bytes())
    return s3_bucket


def rows(output: str) -> pa.Table:
    return read_results(open_store(parse(output)), "0001").select(SAME).sort_by("key")


def test_run__a_bucket_gives_what_a_folder_gives(buckets: str, tmp_path: Path) -> None:
    local = winnow("run", write_spec(tmp_path), "--json", cwd=tmp_path)
    assert local.code == 3, local.err
    spec = write_spec(tmp_path, corpus=f"{buckets}/corpus/", output=f"{buckets}/out")
    remote = winnow("run", spec, "--json", cwd=tmp_path)
    assert remote.code == 3, remote.err
    assert remote.record["outcomes"] == local.record["outcomes"]
    assert remote.record["predictions"] == local.record["predictions"]
    assert remote.record["results"] == f"{buckets}/out/runs/0001/results/*.parquet"
    assert rows(f"{buckets}/out").equals(rows(str(tmp_path / "out")))
    again = winnow("run", spec, "--json", cwd=tmp_path)
    assert (again.code, again.record["state"]) == (0, "nothing_due")
    report = winnow("report", spec, "--json", cwd=tmp_path)
    assert report.code == 0, report.err
    assert report.record["report"] == f"{buckets}/out/runs/0001/report.html"


def test_run__wrong_credentials_and_no_bucket(s3_bucket: str, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, corpus=f"{s3_bucket}/corpus")
    denied = winnow("run", spec, cwd=tmp_path, environ={"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert denied.code == 4
    assert "SignatureDoesNotMatch" in denied.err
    assert "check AWS_ACCESS_KEY_ID" in denied.err
    assert "Traceback" not in denied.err
    absent = winnow("run", write_spec(tmp_path, corpus="s3://no-such-bucket/x"), cwd=tmp_path)
    assert absent.code in (2, 4)
    assert "no-such-bucket" in absent.err
    assert not (tmp_path / "out/runs").exists()
