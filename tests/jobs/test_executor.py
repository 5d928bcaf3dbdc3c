"""Real actors that come and go: released when nothing is left, not waited for without room, warm for the next run.

And those that never come, because a model does not load.
"""

import os
import signal
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from tests.jobs.sleepy import save_sleepy
from tests.workers.pipelines import make_work, pipeline_over
from winnow_jobs import executor as module
from winnow_jobs.cluster import Placement
from winnow_jobs.crew import Worker
from winnow_jobs.engine import Engine
from winnow_jobs.executor import ShardExecutor
from winnow_storage.errors import ModelError, RayError
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig
from winnow_workers.pipeline import WorkerConfig

ROOT = Path(__file__).parents[2]


class NoJournal:
    def started(self, shards: Collection[int]) -> None:
        del shards

    def ended(self, shard: int) -> None:
        del shard

    def flush(self) -> None:
        return


class Other:
    """Somebody else's, who takes the cores of the cluster."""

    def here(self) -> None:
        return


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """One cluster for all; its actors find the tests' operators."""
    with pytest.MonkeyPatch.context() as patch, Engine() as engine:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        engine.cluster()
        yield engine


def config_over(folder: Path, ticks: Sequence[int], *, log: str = "opened", opening: str = "loads") -> WorkerConfig:
    """One image a shard, which takes so many ticks; what opening the model does, and where it is noted."""
    paths = [save_sleepy(folder / f"corpus/{at:03d}.png", count) for at, count in enumerate(ticks)]
    work = make_work(folder, paths, tasks=[["sleepy"]] * len(paths), shard_items=1)
    params = {"log": str(folder.parent / log), "opening": opening}
    task = TaskConfig("sleepy", "tests.jobs.sleepy:SleepyOperator", resolve_model("builtin/fingerprint"), params)
    return replace(pipeline_over(work).config, tasks=(task,))


def execute(config: WorkerConfig, placement: Placement, *, engine: Engine | None = None) -> ShardExecutor:
    return ShardExecutor(
        config, placement, shard_deadline_s=300.0, journal=NoJournal(), say=lambda _: None, engine=engine
    )


def held_cpus() -> float:
    return float(ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0))


def opened(folder: Path, log: str = "opened") -> list[str]:
    return (folder / log).read_text().splitlines()


@pytest.mark.usefixtures("engine")
def test_run__an_actor_with_nothing_left_gives_its_place_back(tmp_path: Path) -> None:
    if ray.cluster_resources()["CPU"] < 2:
        pytest.skip("two actors need two cores")
    config = config_over(tmp_path / "a", [80, 0])
    results = tmp_path / "a/out/runs/0001/results"
    seen: list[float] = []  # while the last shard is worked on

    def look() -> None:
        while not (results / "00000000.parquet").exists():
            if len(list(results.glob("*.parquet"))) == 1:
                seen.append(held_cpus())
            time.sleep(0.1)

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    with execute(config, Placement(2, "cpu", 1)) as driven:
        assert sorted(receipt.shard for receipt in driven.run(range(2), {})) == [0, 1]
    watch.join(10)
    assert min(seen) == 1.0


@pytest.mark.usefixtures("engine")
def test_run__another_actor_comes_when_it_pays_and_no_more_than_may_be(tmp_path: Path) -> None:
    if ray.cluster_resources()["CPU"] < 2:
        pytest.skip("two actors need two cores")
    config = config_over(tmp_path / "a", [5] * 400)
    others = ray.remote(Other).options(num_cpus=ray.cluster_resources()["CPU"] - 1).remote()
    ray.get(others.here.remote())
    with execute(config, Placement(1, "cpu", 1, least=1, most=2)) as driven:
        counts = []
        for _ in driven.run(range(400), {}):
            counts.append(len(driven._workers))
            if len(counts) == 3:
                ray.kill(others)  # the cluster has more room from now on
            if len(set(opened(tmp_path))) == 2:
                break
    assert (set(counts[:3]), counts[-1], max(counts)) == ({1}, 2, 2)


def test_run__what_the_cluster_has_no_room_for_is_not_waited_for(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del engine
    monkeypatch.setattr(module, "PLACE_S", 1.0)
    cores = int(ray.cluster_resources()["CPU"])
    config = config_over(tmp_path / "a", [3] * 8 * cores)
    with execute(config, Placement(cores + 2, "cpu", 1, least=1, most=cores + 2)) as driven:
        assert len(list(driven.run(range(8 * cores), {}))) == 8 * cores
    assert 1 <= len(opened(tmp_path)) <= cores


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("engine")
def test_run__promised_actors_that_never_find_a_place_hold_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the second stage, which begins when all of the first is committed, nor the end."""
    monkeypatch.setattr(module, "PLACE_S", 1.0)
    cores, said = int(ray.cluster_resources()["CPU"]), list[str]()
    config = config_over(tmp_path / "a", [5] * 4 * cores)
    placement = Placement(cores, "cpu", 1, least=cores + 2, most=cores + 2)
    with ShardExecutor(config, placement, shard_deadline_s=300.0, journal=NoJournal(), say=said.append) as driven:
        actors = [len(driven._workers) for _ in driven.run(range(2 * cores), {}, then=range(2 * cores, 4 * cores))]
    assert (len(actors), max(actors)) == (4 * cores, cores + 2)  # they are asked for all along
    assert len(opened(tmp_path)) == cores
    assert [line.partition(" for ")[0] for line in said] == ["the Ray cluster has had no place"]


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("engine")
def test_run__a_shard_whose_actor_died_does_not_wait_for_a_successor_without_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place of the dead goes to an actor that had none before."""
    monkeypatch.setattr(module, "PLACE_S", 1.0)
    cores = int(ray.cluster_resources()["CPU"])
    config = config_over(tmp_path / "a", [10] * 4 * cores)
    placement = Placement(cores, "cpu", 1, least=cores + 2, most=cores + 2)
    with execute(config, placement) as driven:
        receipts = driven.run(range(4 * cores), {})
        committed = [next(receipts).shard]
        os.kill(int(opened(tmp_path)[0]), signal.SIGKILL)
        committed += [receipt.shard for receipt in receipts]
    assert sorted(committed) == list(range(4 * cores))


@pytest.mark.usefixtures("engine")
def test_bare_items_per_s__is_unknown_where_one_actor_hangs(tmp_path: Path) -> None:
    config, placement = config_over(tmp_path / "a", [0, 100]), Placement(1, "cpu", 1)
    with ShardExecutor(
        config, placement, shard_deadline_s=5.0, journal=NoJournal(), say=lambda _: None, keep=True
    ) as driven:
        assert len(list(driven.run([0], {}))) == 1
        assert driven.bare_items_per_s([0]) is not None
        assert driven.bare_items_per_s([1]) is None  # it would take ten seconds


@pytest.mark.usefixtures("engine")
def test_bare_items_per_s__is_unknown_where_one_actor_has_no_image(tmp_path: Path) -> None:
    driven = execute(config_over(tmp_path / "a", [0]), Placement(3, "cpu", 1))
    for answer in ((10, 1.0), (10, 2.0)):
        driven._workers.append(timed(answer))
    assert driven.bare_items_per_s([0]) == 15.0
    driven._workers.append(timed((0, 0.0)))
    assert driven.bare_items_per_s([0]) is None


def timed(answer: tuple[int, float]) -> Worker:
    """An open actor whose bare loop is over."""
    loop = SimpleNamespace(remote=lambda shard: ray.put(answer))
    return Worker(actor=SimpleNamespace(bare_loop=loop), node_id="here")


def test_run__actors_stay_warm_for_a_run_with_the_same_tasks(engine: Engine, tmp_path: Path) -> None:
    placement = Placement(1, "cpu", 1)
    for name in ("a", "b"):
        with execute(config_over(tmp_path / name, [0, 0]), placement, engine=engine) as driven:
            assert len(list(driven.run(range(2), {}))) == 2
    assert len(opened(tmp_path)) == 1  # one actor, one loading of its models, two outputs
    other = config_over(tmp_path / "c", [0], log="others")
    with execute(other, placement, engine=engine) as driven:
        assert len(list(driven.run(range(1), {}))) == 1
    assert opened(tmp_path, "others") != opened(tmp_path)
    (last,) = set(opened(tmp_path))
    end = time.monotonic() + 10
    while Path(f"/proc/{last}/stat").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{last}/stat").exists()  # it was of no use to the last run
    for actor in engine.strangers(config_over(tmp_path / "d", [0])):
        ray.kill(actor)


@pytest.mark.usefixtures("engine")
def test_run__the_time_that_a_driver_was_away_is_not_held_against_actors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.05)  # so that hardly ever a question is under way when it leaves
    said: list[str] = []
    config, placement = config_over(tmp_path / "a", [40, 40]), Placement(1, "cpu", 1)
    with ShardExecutor(config, placement, shard_deadline_s=5.5, journal=NoJournal(), say=said.append) as driven:
        receipts = driven.run(range(2), {})
        next(receipts)  # after four seconds, in which the actor made no step
        time.sleep(3.5)  # the next image takes four seconds as well
        assert len(list(receipts)) == 1
    assert said == []
    assert len(opened(tmp_path)) == 1


@pytest.mark.usefixtures("engine")
def test_run__a_model_that_is_refused_ends_the_run_at_once(tmp_path: Path) -> None:
    with (
        execute(config_over(tmp_path / "a", [0], opening="refuses"), Placement(1, "cpu", 1)) as driven,
        pytest.raises(ModelError, match="its weights are of another network") as caught,
    ):
        list(driven.run(range(1), {}))
    assert caught.value.hint == "name the model that they are of"
    assert len(opened(tmp_path)) == 1


@pytest.mark.usefixtures("engine")
def test_run__a_model_that_ends_its_process_is_tried_three_times(tmp_path: Path) -> None:
    with (
        execute(config_over(tmp_path / "a", [0], opening="ends"), Placement(1, "cpu", 1)) as driven,
        pytest.raises(RayError, match="an actor died 3 times while it loaded its models"),
    ):
        list(driven.run(range(1), {}))
    assert len(opened(tmp_path)) == module.OPEN_ATTEMPTS == 3


@pytest.mark.usefixtures("engine")
def test_run__a_model_that_hangs_has_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_DEADLINE_S", 1.0)
    monkeypatch.setattr(module, "OPEN_ATTEMPTS", 2)
    with (
        execute(config_over(tmp_path / "a", [0], opening="hangs"), Placement(1, "cpu", 1)) as driven,
        pytest.raises(RayError, match="died 2 times while it loaded its models: models not loaded within 1 s"),
    ):
        list(driven.run(range(1), {}))
    assert len(opened(tmp_path)) == 2
