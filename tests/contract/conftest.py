"""Which servers do the contract suites share?"""

from collections.abc import Iterator

import pytest

from tests.servers.postgres import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole session; a test makes its own databases in it."""
    with postgres_server() as server:
        yield server
