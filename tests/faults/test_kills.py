"""Kills in the middle of work, and stops, and lost ledgers: nothing lost, nothing doubled, all as without.

At least 25, with every kind of fault, in `make test`; 500 in `make soak`.
"""

import pytest

from tests.faults.arena import Shape
from tests.faults.campaign import Ground, campaign, disturb, prepare
from tests.faults.ledgers import ServerLedger
from tests.faults.schedule import SHORT, Kind
from tests.servers.postgres import postgres_server

KILLS = 25
SEED = 1


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return prepare(tmp_path_factory.mktemp("faults"), Shape())


@pytest.mark.timeout(900)  # two minutes where nothing else runs; a run that does not go on is ended by the harness
def test_run__survives_kills_in_the_middle_of_work(ground: Ground) -> None:
    done = campaign(ground, SEED, "short", kills=KILLS, whole=True)
    assert not done.failures, "\n".join(done.failures)  # in full: pytest would cut a list short
    assert done.kills >= KILLS
    blows = [blow for story in done.stories for blow in story.blows]
    assert all(blow.committed < blow.shards for blow in blows if blow.kills)
    assert {blow.fault.kind for blow in blows} == {kind for kind, _ in SHORT}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_run__survives_the_ledgers_server_going_away(ground: Ground) -> None:
    with postgres_server() as server:
        story = disturb(ground, SEED, "ledger", ledger=ServerLedger(server))
    assert not story.problems, "\n".join(story.problems)
    assert Kind.STOP_LEDGER in {blow.fault.kind for blow in story.blows}
