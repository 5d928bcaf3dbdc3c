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
    first_plan_cpu_us: float = 1.9  # an item
    night_plan_cpu_us: float = 2.6  # an item
    shard_driver_cpu_us: float = 3200  # a shard, of the driver
    gets_per_shard: float = 3  # besides the images
    puts_per_shard: float = 1
    gets_per_earlier_shard: float = 1  # of a night's plan
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
    plan_cpu_s: float
    plan_read_s: float
    shards: float
    driver_cpu_s: float
    gets: float
    puts: float
    s3_usd: float
    gpu_hours: float
    gpu_usd: float
    wall_hours: float
    read_gb_per_s: float
    shards_per_s: float
    stored_gb: float
    stored_usd_per_month: float


def first_run(of: Inputs) -> Night:
    """The run over everything."""
    return _run(of, due=of.items, plan_cpu_us=of.first_plan_cpu_us, earlier_items=0.0)


def night(of: Inputs) -> Night:
    """The run a night later: everything is listed, the rows so far are read, what is new is worked on."""
    return _run(of, due=of.items * of.new_share, plan_cpu_us=of.night_plan_cpu_us, earlier_items=of.items)


def _run(of: Inputs, *, due: float, plan_cpu_us: float, earlier_items: float) -> Night:
    lists = of.items / of.keys_per_list
    listing_s = lists / of.lists_at_once * of.list_request_s
    plan_cpu_s = of.items * plan_cpu_us / 1e6
    plan_read_s = earlier_items * of.earlier_row_bytes / 1e9 / of.driver_gb_per_s
    shards = due / of.shard_items
    gets = due + shards * of.gets_per_shard + earlier_items / of.shard_items * of.gets_per_earlier_shard
    puts = shards * of.puts_per_shard
    work_s = due / (of.gpus * of.gpu_items_per_s)
    gpu_hours = work_s * of.gpus / HOUR_S
    stored_gb = due * of.row_bytes / 1e9
    return Night(
        due_items=due,
        lists=lists,
        listing_s=listing_s,
        plan_cpu_s=plan_cpu_s,
        plan_read_s=plan_read_s,
        shards=shards,
        driver_cpu_s=shards * of.shard_driver_cpu_us / 1e6,
        gets=gets,
        puts=puts,
        s3_usd=(lists + puts) / 1000 * of.put_usd_per_1000 + gets / 1000 * of.get_usd_per_1000,
        gpu_hours=gpu_hours,
        gpu_usd=gpu_hours * of.gpu_hour_usd,
        wall_hours=(listing_s + max(plan_cpu_s, plan_read_s) + work_s) / HOUR_S,
        read_gb_per_s=due * of.item_bytes / work_s / 1e9,
        shards_per_s=shards / work_s,
        stored_gb=stored_gb,
        stored_usd_per_month=stored_gb * of.stored_gb_month_usd,
    )


def table(of: Inputs) -> str:
    """Both runs as a Markdown table, three significant digits."""
    full, later = asdict(first_run(of)), asdict(night(of))
    rows = [f"| `{name}` | {_text(value)} | {_text(later[name])} |" for name, value in full.items()]
    return "\n".join(["| | first run | night |", "|---|---|---|", *rows]) + "\n"


def _text(value: float) -> str:
    """Three significant digits, whole thousands with commas: 488,000, 5.83, 0.0417."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"
