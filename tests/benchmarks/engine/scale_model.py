"""What does a run over a billion items take? Pure arithmetic from what was measured and what is charged.

Every input has its unit in its name; what was measured where, and what is assumed, says docs/scale.md.
"""

from dataclasses import asdict, dataclass

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the arithmetic starts from."""

    items: float = 1e9
    new_share: float = 0.01  # of the items, in a night
    item_bytes: float = 120_000
    row_bytes: float = 600  # of a result in Parquet
    earlier_row_bytes: float = 600  # of every row so far that a night reads: objects up to 4 MiB are read whole
    driver_gb_per_s: float = 1.25  # of its network
    shard_items: float = 2048
    keys_per_list: float = 1000
    list_request_s: float = 0.1
    lists_at_once: float = 16
    list_cpu_us: float = 5.9  # a key
    first_plan_cpu_us: float = 1.9  # an item
    night_plan_cpu_us: float = 2.6  # an item
    compacted_plan_cpu_us: float = 1.6  # an item, of a night after `winnow compact`
    compacted_row_bytes: float = 22  # of what it took down for planning, an item
    compacted_items_per_get: float = 65_536
    part_rows: float = 1_048_576  # of a plan's parts
    snapshot_item_bytes: float = 36.5  # of every item, in every run that has work
    work_item_bytes: float = 36.8  # of what is due
    once_item_bytes: float = 90  # of the driver's memory, for `same_content: once`, an item that is due
    temporary_item_bytes: float = 250  # of $TMPDIR while a run is planned, an item, if it is due
    shard_driver_cpu_us: float = 570  # a shard, of the driver
    gets_per_shard: float = 4  # besides the images
    puts_per_shard: float = 1
    gets_per_earlier_shard: float = 1  # of a night's plan
    tasks: float = 2
    route_cpu_us: float = 3.4  # a prediction
    route_bytes: float = 29  # of a prediction's route in Parquet
    gpus: float = 100
    gpu_items_per_s: float = 1800  # of one
    gpu_hour_usd: float = 5.408
    put_usd_per_1000: float = 0.005  # and of a LIST
    get_usd_per_1000: float = 0.0004
    stored_gb_month_usd: float = 0.023


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What one run takes; every field's unit is in its name."""

    due_items: float
    lists: float
    listing_s: float
    listing_cpu_s: float
    plan_cpu_s: float
    plan_read_s: float
    temporary_gb: float
    once_memory_gb: float
    shards: float
    driver_cpu_s: float
    route_cpu_s: float
    gets: float
    puts: float
    s3_usd: float
    gpu_hours: float
    gpu_usd: float
    wall_hours: float
    read_gb_per_s: float
    shards_per_s: float
    snapshot_gb: float
    stored_gb: float
    stored_usd_per_month: float


def first_run(of: Inputs) -> Night:
    """The run over everything."""
    return _run(of, due=of.items, plan_cpu_us=of.first_plan_cpu_us, earlier_bytes=0.0, earlier_gets=0.0)


def night(of: Inputs) -> Night:
    """The run a night later: everything is listed, the rows so far are read, what is new is worked on."""
    return _run(
        of,
        due=of.items * of.new_share,
        plan_cpu_us=of.night_plan_cpu_us,
        earlier_bytes=of.items * of.earlier_row_bytes,
        earlier_gets=of.items / of.shard_items * of.gets_per_earlier_shard,
    )


def night_after_compact(of: Inputs) -> Night:
    """The same once `winnow compact` has taken down what stands: that is read in place of the rows."""
    return _run(
        of,
        due=of.items * of.new_share,
        plan_cpu_us=of.compacted_plan_cpu_us,
        earlier_bytes=of.items * of.compacted_row_bytes,
        earlier_gets=of.items / of.compacted_items_per_get,
    )


def _run(of: Inputs, *, due: float, plan_cpu_us: float, earlier_bytes: float, earlier_gets: float) -> Night:
    lists = of.items / of.keys_per_list
    listing_s = lists / of.lists_at_once * of.list_request_s
    listing_cpu_s = of.items * of.list_cpu_us / 1e6
    plan_cpu_s = of.items * plan_cpu_us / 1e6
    plan_read_s = earlier_bytes / 1e9 / of.driver_gb_per_s
    shards = due / of.shard_items
    gets = due + shards * of.gets_per_shard + earlier_gets
    puts = shards * of.puts_per_shard + (of.items + due) / of.part_rows
    route_cpu_s = due * of.tasks * of.route_cpu_us / 1e6
    work_s = due / (of.gpus * of.gpu_items_per_s)
    gpu_hours = work_s * of.gpus / HOUR_S
    snapshot_gb = of.items * of.snapshot_item_bytes / 1e9
    stored_gb = snapshot_gb + due * (of.row_bytes + of.work_item_bytes + of.tasks * of.route_bytes) / 1e9
    return Night(
        due_items=due,
        lists=lists,
        listing_s=listing_s,
        listing_cpu_s=listing_cpu_s,
        plan_cpu_s=plan_cpu_s,
        plan_read_s=plan_read_s,
        temporary_gb=of.items * of.temporary_item_bytes / 1e9,
        once_memory_gb=due * of.once_item_bytes / 1e9,
        shards=shards,
        driver_cpu_s=shards * of.shard_driver_cpu_us / 1e6,
        route_cpu_s=route_cpu_s,
        gets=gets,
        puts=puts,
        s3_usd=(lists + puts) / 1000 * of.put_usd_per_1000 + gets / 1000 * of.get_usd_per_1000,
        gpu_hours=gpu_hours,
        gpu_usd=gpu_hours * of.gpu_hour_usd,
        wall_hours=(max(listing_s, listing_cpu_s) + max(plan_cpu_s, plan_read_s) + work_s + route_cpu_s) / HOUR_S,
        read_gb_per_s=due * of.item_bytes / work_s / 1e9,
        shards_per_s=shards / work_s,
        snapshot_gb=snapshot_gb,
        stored_gb=stored_gb,
        stored_usd_per_month=stored_gb * of.stored_gb_month_usd,
    )


def table(of: Inputs) -> str:
    """The three runs as a Markdown table, three significant digits."""
    full, *nights = [asdict(run) for run in (first_run(of), night(of), night_after_compact(of))]
    rows = [f"| `{name}` | {' | '.join(_text(run[name]) for run in (full, *nights))} |" for name in full]
    return "\n".join(["| | first run | night | night after `winnow compact` |", "|---|---|---|---|", *rows]) + "\n"


def _text(value: float) -> str:
    """Three significant digits, whole thousands with commas: 488,000, 5.83, 0.0417."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"
