"""What do these tests speak to Label Studio with? Clients, stores and ledgers of their own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from winnow_annotation.label_studio import LabelStudioClient
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.ledger import Ledger, open_ledger
from winnow_storage.uri import parse


@pytest.fixture
def client(label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> LabelStudioClient:
    return LabelStudioClient(label_studio.url, label_studio.token, document_root=str(tmp_path_factory.getbasetemp()))


@pytest.fixture
def output(tmp_path: Path) -> BlobStore:
    return open_store(parse(str(tmp_path / "output")))


@pytest.fixture
def job() -> str:
    """A name that no other test uses, for projects of its own."""
    return f"job-{os.urandom(4).hex()}"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield opened
    opened.close()
