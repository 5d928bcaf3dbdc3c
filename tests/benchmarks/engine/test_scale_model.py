"""The arithmetic of the cost model, and that docs/scale.md shows what it gives."""

from dataclasses import fields
from pathlib import Path

import pytest

from tests.benchmarks.engine.scale import inputs_of
from tests.benchmarks.engine.scale_model import Inputs, first_run, night, night_after_compact, table

DOCS = Path(__file__).parents[3] / "docs" / "scale.md"


def test_first_run__by_hand() -> None:
    run = first_run(Inputs(items=2_048_000, gpus=10, gpu_items_per_s=100))
    assert run.lists == 2048
    assert run.shards == 1000
    assert run.gets == 2_048_000 + 1000 * Inputs().gets_per_shard
    assert run.gpu_hours == pytest.approx(2_048_000 / 100 / 3600)
    assert run.puts == pytest.approx(1000 + 2 * 2_048_000 / 1_048_576)  # the snapshot, and the work
    assert run.s3_usd == pytest.approx((2048 + run.puts) / 1000 * 0.005 + run.gets / 1000 * 0.0004)
    assert run.route_cpu_s == pytest.approx(2_048_000 * 2 * 3.4e-6)
    assert run.once_memory_gb == pytest.approx(2_048_000 * 90 / 1e9)


def test_first_run__one_step_after_the_other() -> None:
    inputs = Inputs()
    run = first_run(inputs)
    works_s = run.gpu_hours / inputs.gpus * 3600
    assert run.wall_hours * 3600 == pytest.approx(run.listing_s + run.plan_cpu_s + works_s + run.route_cpu_s)
    at_once = first_run(Inputs(lists_at_once=1000))  # the process that lists is busier than its requests are slow
    assert (run.wall_hours - at_once.wall_hours) * 3600 == pytest.approx(run.listing_s - run.listing_cpu_s)


def test_night__puts_the_whole_snapshot_again() -> None:
    inputs = Inputs(new_share=0.01)
    full, later = first_run(inputs), night(inputs)
    assert later.snapshot_gb == full.snapshot_gb == inputs.items * inputs.snapshot_item_bytes / 1e9
    assert later.stored_gb - later.snapshot_gb == pytest.approx(0.01 * (full.stored_gb - full.snapshot_gb))


def test_night__lists_everything_and_works_on_what_is_new() -> None:
    inputs = Inputs(new_share=0.01)
    full, later = first_run(inputs), night(inputs)
    assert later.lists == full.lists
    assert later.due_items == pytest.approx(0.01 * full.due_items)
    assert later.gpu_usd == pytest.approx(0.01 * full.gpu_usd)
    earlier = inputs.items / inputs.shard_items * inputs.gets_per_earlier_shard
    assert later.gets == pytest.approx(0.01 * full.gets + earlier)


def test_night_after_compact__reads_what_was_taken_down_in_place_of_the_rows() -> None:
    inputs = Inputs()
    before, after = night(inputs), night_after_compact(inputs)
    assert after.plan_read_s == pytest.approx(
        inputs.compacted_row_bytes / inputs.earlier_row_bytes * before.plan_read_s
    )
    earlier = inputs.items / inputs.shard_items * inputs.gets_per_earlier_shard
    assert before.gets - after.gets == pytest.approx(earlier - inputs.items / inputs.compacted_items_per_get)
    assert (after.lists, after.gpu_hours, after.puts) == (before.lists, before.gpu_hours, before.puts)


def test_inputs__set_by_name() -> None:
    assert inputs_of(["items=1e6", "gpus=8"]) == Inputs(items=1e6, gpus=8)
    with pytest.raises(SystemExit, match="no input of that name"):
        inputs_of(["item=1"])
    with pytest.raises(SystemExit, match="is no number"):
        inputs_of(["items=many"])


def test_docs__show_the_model() -> None:
    page = DOCS.read_text(encoding="utf-8")
    assert table(Inputs()) in page
    for field in fields(Inputs):
        assert f"`{field.name}`" in page, field.name
