"""How does the S3 store meet answers that no healthy store gives? One over a server that answers as a test says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.servers.scripted import Answer, Request, scripted_server
from tests.storage.fake_time import FakeTime
from winnow_storage.s3_store import S3Store
from winnow_storage.uri import parse


@contextmanager
def answering(aws: pytest.MonkeyPatch, answer: Callable[[Request], Answer]) -> Iterator[S3Store]:
    with scripted_server(answer) as url:
        aws.setenv("AWS_ENDPOINT_URL", url)
        yield S3Store(parse("s3://bucket/prefix"), retrying=FakeTime().retrying())


def failure(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode()
