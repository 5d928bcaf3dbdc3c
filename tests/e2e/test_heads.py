"""A head is promoted in the registry: the next run decides anew about every image, and reads none."""

from pathlib import Path

import pytest

from tests.e2e.winnow import winnow
from tests.jobs.heads import photographs, spec_of, spoil, write_head

KIND = "name: kind, operator: classify, vectors: look, model: models/kind@prod"


@pytest.mark.long
def test_run__after_a_promotion_nothing_is_fetched(tmp_path: Path) -> None:
    environ = {"WINNOW_REGISTRY": str(tmp_path / "registry")}
    paths = photographs(tmp_path)
    job = spec_of(tmp_path, KIND)
    for seed in (1, 2):
        added = winnow("models", "add", "kind", write_head(tmp_path, seed), "--json", cwd=tmp_path, environ=environ)
        assert (added.code, added.record["card"]["kind"]) == (0, "head"), added.err
    promote = ("models", "promote", "kind")
    assert winnow(*promote, "1", "prod", cwd=tmp_path, environ=environ).code == 0
    first = winnow("run", job, "--json", cwd=tmp_path, environ=environ)
    assert (first.code, first.record["predictions"]) == (0, {"look": 10, "kind": 10}), first.err
    assert winnow(*promote, "2", "prod", cwd=tmp_path, environ=environ).code == 0
    spoil(paths)
    planned = winnow("plan", job, cwd=tmp_path, environ=environ)
    assert "10 from committed vectors of look, nothing is fetched" in planned.out
    second = winnow("run", job, "--backfill", "predictions", "--json", cwd=tmp_path, environ=environ)
    assert second.code == 0, second.err
    record = second.record
    assert (record["predictions"], record["from_vectors"], record["bytes"]) == ({"kind": 10}, 10, 0)
    assert winnow("verify", job, "--all", cwd=tmp_path, environ=environ).code == 0
