"""Did the faults do any harm? One row per item, equal to those of an undisturbed run, and a run that verifies."""

from collections import Counter
from pathlib import Path

import pyarrow as pa

from tests.faults.arena import RUN_ID, Arena
from winnow_jobs.runs import Runs
from winnow_jobs.verify.run import verify_run
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_results
from winnow_storage.local_store import TEMPORARY
from winnow_storage.uri import parse

SHOWN = 5


def rows_in(out: Path) -> pa.Table:
    """The rows of a run, sorted by key."""
    return read_results(open_store(parse(str(out))), RUN_ID).sort_by("key")


def harm(arena: Arena, expected: pa.Table, *, kills: int, state: str = "done") -> list[str]:
    """What is wrong with a closed run; `expected` are the rows of an undisturbed one."""
    found = [*_stray(arena, kills), *difference(rows_in(arena.out), expected)]
    check = verify_run(Runs(open_store(parse(str(arena.out)))), RUN_ID)
    if check.findings or check.state != state:
        found.append(f"winnow verify: {check.state}, {[str(finding) for finding in check.findings[:SHOWN]]}")
    return found


def difference(rows: pa.Table, expected: pa.Table) -> list[str]:
    """How rows differ from those that were expected, both sorted by key; the first few keys of each kind."""
    counts = Counter(rows["key"].to_pylist())
    keys = set(expected["key"].to_pylist())
    found = []
    if doubled := sorted(key for key, count in counts.items() if count > 1):
        found.append(f"{len(doubled)} items have several rows: {doubled[:SHOWN]}")
    if lost := sorted(keys - counts.keys()):
        found.append(f"{len(lost)} items have no row: {lost[:SHOWN]}")
    if strange := sorted(counts.keys() - keys):
        found.append(f"{len(strange)} rows are of no item: {strange[:SHOWN]}")
    if found or rows.equals(expected):
        return found
    wanted = {row["key"]: row for row in expected.to_pylist()}
    other = [(row, wanted[row["key"]]) for row in rows.to_pylist() if row != wanted[row["key"]]]
    shown = [{name: (was[name], is_[name]) for name in was if is_[name] != was[name]} for is_, was in other[:SHOWN]]
    return [f"{len(other)} rows differ (expected, found): {shown}" if other else "the schemas differ"]


def _stray(arena: Arena, kills: int) -> list[str]:
    """What lies among the results that is no shard. A writer that is killed leaves its temporary file, at most one."""
    names = [path.name for path in arena.results.iterdir()]
    shards = {f"{shard:08d}.parquet" for shard in range(arena.shape.shards)}
    temporary = [name for name in names if name.startswith(TEMPORARY)]
    found = []
    if other := sorted(set(names) - shards - set(temporary)):
        found.append(f"among the results: {other[:SHOWN]}")
    if len(temporary) > kills * arena.shape.actors:
        found.append(f"{len(temporary)} unfinished files are left after {kills} kills")
    return found
