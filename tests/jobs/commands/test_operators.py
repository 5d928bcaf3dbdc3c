"""Does `winnow operators` list the whole catalogue?"""

import json

import pytest

from winnow_jobs.cli import main
from winnow_workers.catalogue import OPERATORS


def test_operators__json_lists_all_with_their_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["operators", "--json"])
    assert ended.value.code == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["operator"] for one in records] == list(OPERATORS)
    for one in records:
        kind = OPERATORS[one["operator"]]
        assert one["default_model"] == kind.default_model
        assert set(one["parameters"]["properties"]) == set(kind.params_type.model_fields)
