"""Which servers and places do tests share? Each server starts once, when the first test asks for it."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import settings

from tests.servers.label_studio import running_label_studio
from tests.servers.postgres import PostgresServer, postgres_server
from tests.servers.s3 import S3Server, s3_server
from winnow_jobs.demo.label_studio_server import LabelStudioServer

# on what Hypothesis itself chose (it knows a CI), but no example fails for its time
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One S3 server for the whole session; nothing global is set."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_client(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A boto3 client of the server, for what the product does not do (making buckets)."""
    with pytest.MonkeyPatch.context() as patch:
        use_s3(s3, tmp_path_factory.mktemp("aws") / "absent", patch)
        client = boto3.session.Session().client("s3")
    yield client
    client.close()


@pytest.fixture
def s3_bucket(s3: S3Server, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://BUCKET` of a fresh bucket, reached through the usual AWS environment and no profile of this machine."""
    use_s3(s3, tmp_path / "absent", monkeypatch)
    bucket = f"winnow-{uuid.uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


def use_s3(server: S3Server, absent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the AWS environment at `server`; `absent` is a path where no settings file is."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_DEFAULT_REGION": "us-east-1",
        # the server is older than the checksums that the AWS C++ SDK sends as trailers (it answers 411)
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(absent),
        "AWS_SHARED_CREDENTIALS_FILE": str(absent),
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """The server; images are served from below the session's temporary folder."""
    with running_label_studio(tmp_path_factory.getbasetemp()) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole session; a test makes its own databases in it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _own_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's: no settings from the environment, no ledger, registry or cache of theirs."""
    for name in ("WINNOW_LEDGER", "WINNOW_REGISTRY", "LABEL_STUDIO_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    scratch = tmp_path_factory.getbasetemp() / "machine"
    monkeypatch.setenv("XDG_DATA_HOME", str(scratch / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(scratch / "cache"))
