"""How many actors a run asks a cluster for: what fits, what is promised, and what only a cluster that grows may owe."""

from typing import Any

import pytest

from winnow_jobs.cluster import MEMORY_PER_ACTOR, Placement, place
from winnow_jobs.spec import ExecutionSpec
from winnow_storage.errors import RayError

PLENTY = 64 * MEMORY_PER_ACTOR
TWO_CORES = {"CPU": 2.0, "memory": PLENTY}
TWO_GPUS = {"CPU": 16.0, "GPU": 2.0, "memory": PLENTY}
HEAD_ONLY = {"memory": PLENTY}  # no place for actors, as of KubeRay's head before a worker is there


def placed(
    resources: dict[str, float],
    *,
    shards: int = 100,
    may_grow: bool = False,
    device: str = "auto",
    actors: Any = "auto",
) -> Placement:
    spec = ExecutionSpec.model_validate({"device": device, "actors": actors})
    return place(spec, shards, resources, may_grow=may_grow)


@pytest.mark.parametrize(
    ("resources", "actors", "shards", "expected"),
    [
        (TWO_CORES, "auto", 100, Placement(2, "cpu", 1, least=1, most=100)),
        (TWO_CORES, "auto", 1, Placement(1, "cpu", 2, least=1, most=1)),
        (TWO_CORES, 1, 100, Placement(1, "cpu", 2, least=1, most=1)),
        (TWO_CORES, {"min": 1, "max": 1}, 100, Placement(1, "cpu", 2, least=1, most=1)),
        (TWO_CORES | {"memory": MEMORY_PER_ACTOR}, "auto", 100, Placement(1, "cpu", 2, least=1, most=100)),
        (TWO_CORES | {"memory": MEMORY_PER_ACTOR}, 2, 100, Placement(2, "cpu", 1, least=2, most=2)),
        (TWO_GPUS, "auto", 100, Placement(2, "cuda", 8, least=1, most=100)),
        (TWO_GPUS, {"min": 1, "max": 8}, 100, Placement(2, "cuda", 8, least=1, most=8)),
    ],
)
def test_place__what_the_cluster_has_room_for_is_the_same_wherever_it_is(
    resources: dict[str, float], actors: object, shards: int, expected: Placement
) -> None:
    for may_grow in (False, True):
        assert placed(resources, actors=actors, shards=shards, may_grow=may_grow) == expected


@pytest.mark.parametrize(
    ("resources", "actors", "shards", "now", "here", "elsewhere"),
    [
        (TWO_CORES, {"min": 8, "max": 16}, 100, 2, 2, 8),
        (TWO_CORES, {"min": 8, "max": 16}, 5, 2, 2, 5),  # no more than there are shards
        (TWO_CORES, {"min": 8, "max": 16}, 1, 1, 1, 1),
        (TWO_CORES, 8, 100, 2, 2, 8),
        (TWO_GPUS, {"min": 4, "max": 8}, 100, 2, 2, 4),
        (HEAD_ONLY, {"min": 4, "max": 8}, 100, 1, 1, 4),
    ],
)
def test_place__what_is_promised_beyond_that_is_asked_of_a_cluster_that_may_grow(
    resources: dict[str, float], actors: object, shards: int, now: int, here: int, elsewhere: int
) -> None:
    own = placed(resources, actors=actors, shards=shards)
    joined = placed(resources, actors=actors, shards=shards, may_grow=True)
    assert (own.actors, own.least) == (now, here)
    assert (joined.actors, joined.least) == (now, elsewhere)
    assert own.most == joined.most


@pytest.mark.parametrize("may_grow", [False, True])
def test_place__cuda_needs_a_gpu_when_the_run_begins(may_grow: bool) -> None:
    with pytest.raises(RayError, match="has no GPU"):
        placed(TWO_CORES, device="cuda", actors={"min": 2, "max": 4}, may_grow=may_grow)
    assert placed(TWO_GPUS, device="cpu", may_grow=may_grow).device == "cpu"
