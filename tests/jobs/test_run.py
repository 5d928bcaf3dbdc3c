"""What are a run's actors told of its spec? Their share of what the store allows, and that no more may come for it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.jobs.whole_nights import begin, job
from tests.workers.pipelines import save_image
from winnow_jobs.cluster import Placement
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.run import _placement, _worker_config
from winnow_workers.pipeline import Pipeline

FITTING = Placement(3, "cpu", 1, least=1, most=8)


def spared(folder: Path, **limits: float) -> ResolvedSpec:
    """A job over one image whose corpus is read no faster than `limits` say."""
    save_image(folder / "corpus/0.png", seed=0)
    resolved = job(folder)
    return resolved.model_copy(update={"corpus": resolved.corpus.model_copy(update=limits)})


def cluster_of(placement: Placement) -> Any:
    """An engine whose cluster has room for that."""
    return SimpleNamespace(cluster=lambda: SimpleNamespace(placement=lambda spec, shards: placement))


def test_worker_config__every_actor_has_its_share_of_what_the_store_allows(tmp_path: Path) -> None:
    spec = spared(tmp_path, max_requests_per_s=60.0, max_bytes_per_s=3e6)
    plan = begin(spec)
    assert plan is not None
    config = _worker_config(plan, spec, actors=3)
    assert (config.max_requests_per_s, config.max_bytes_per_s) == (20.0, 1e6)
    free = _worker_config(plan, job(tmp_path), actors=3)
    assert (free.max_requests_per_s, free.max_bytes_per_s) == (None, None)


def test_worker_config__actors_look_before_they_put_where_the_output_honours_no_condition(tmp_path: Path) -> None:
    spec = spared(tmp_path)
    plan = begin(spec)
    assert plan is not None
    for honoured in (True, False):
        config = _worker_config(plan, spec, actors=1, conditional_puts=honoured)
        assert Pipeline(config).store.conditional_puts is honoured


@pytest.mark.parametrize("limit", ["max_requests_per_s", "max_bytes_per_s"])
def test_placement__no_more_actors_come_than_share_what_the_store_allows(tmp_path: Path, limit: str) -> None:
    assert _placement(cluster_of(FITTING), spared(tmp_path, **{limit: 60.0}), 9) == replace(FITTING, most=3)
    assert _placement(cluster_of(FITTING), job(tmp_path), 9) == FITTING


def test_placement__none_that_a_cluster_might_add_nodes_for_is_promised_either(tmp_path: Path) -> None:
    promised = replace(FITTING, least=8)
    assert _placement(cluster_of(promised), spared(tmp_path, max_requests_per_s=60.0), 9).least == 3
    assert _placement(cluster_of(promised), job(tmp_path), 9) == promised
