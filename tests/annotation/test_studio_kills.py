"""Nothing is lost or doubled between us and people: a handful of kills. The long form is a benchmark."""

from pathlib import Path

import pytest

from tests.benchmarks.annotation.studio_kills import Campaign, Studio
from winnow_jobs.demo.label_studio_server import LabelStudioServer


@pytest.mark.long
def test_push_and_pull__survive_kills(label_studio: LabelStudioServer, tmp_path: Path) -> None:
    studio = Studio(tmp_path.parent, label_studio)
    found = Campaign(studio, tmp_path, 7, kills=4, server_kills=0).run()
    assert sum(found.kills.values()) == 4
    assert found.tasks > 0
    assert found.harm == {}
