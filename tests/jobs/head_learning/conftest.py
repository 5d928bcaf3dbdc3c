"""Digits with stored vectors, embedded once; every test has an output of its own."""

import shutil
from pathlib import Path

import pytest

from tests.jobs.head_learning.digits_job import DigitsJob, make_digits

COUNT = 420


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> DigitsJob:
    return make_digits(tmp_path_factory.mktemp("digits") / "job", COUNT)


@pytest.fixture
def digits(embedded: DigitsJob, tmp_path: Path) -> DigitsJob:
    shutil.copytree(embedded.folder, tmp_path / "job", copy_function=shutil.copy2)
    return DigitsJob(tmp_path / "job")
