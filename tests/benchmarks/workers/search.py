"""How much faster is the approximate search than the exact one, and how many of the true nearest does it find?

Synthetic clustered vectors, committed as rows of a run and read back, as `winnow search` does. The exact side streams
them from Parquet at every query; `held` is a bare matrix product over vectors that are in memory already, which is the
fairest rival of an index that is open. Near-duplicates: copies with noise among them, all pairs compared.

    python -m tests.benchmarks.workers.search --vectors 100000 --width 256
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.benchmarks.engine.line import say
from tests.storage.clouds import clustered, table_of, vectors_of
from tests.storage.many_runs import Run, begin
from tests.storage.shard_rows import receipt
from winnow_storage import schemas, shards
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.current_view import view_current
from winnow_storage.ids import item_id
from winnow_storage.near_duplicates import near_duplicates
from winnow_storage.neighbours import nearest
from winnow_storage.uri import parse
from winnow_storage.vector_index import Place, ensure_index, view_digest
from winnow_storage.vectors import Vectors, current_vectors, unit

SHARD_ROWS = 2048
K = 10


def write_run(store: BlobStore, stored: np.ndarray, folder: Path) -> Vectors:
    """A run whose rows hold these vectors as float16."""
    keys = [f"{place:08d}.jpg" for place in range(len(stored))]
    begin(store, Run("0001", dict.fromkeys(keys, "v1"), {}, [[]] * -(-len(keys) // SHARD_ROWS)), folder)
    own = [pa.field("vector", pa.list_(pa.float16(), stored.shape[1]))]
    schema = schemas.result_schema({"vector": own})
    for shard, start in enumerate(range(0, len(keys), SHARD_ROWS)):
        part, some = stored[start : start + SHARD_ROWS], keys[start : start + SHARD_ROWS]
        given = {
            "item_id": [item_id("corpus", key) for key in some],
            "key": some,
            "uri": [f"s3://b/{key}" for key in some],
            "version": ["v1"] * len(some),
            "outcome": ["done"] * len(some),
            "failed_tasks": [[]] * len(some),
            "run_id": ["0001"] * len(some),
            "shard": [shard] * len(some),
        }
        struct = schema.field("vector").type
        values = pa.FixedSizeListArray.from_arrays(pa.array(part.astype(np.float16).ravel()), stored.shape[1])
        filled = {"model": pa.array(["m"] * len(some)), "vector": values}
        children = [filled.get(field.name, pa.nulls(len(some), field.type)) for field in struct]
        columns = [
            pa.array(given[field.name], field.type) if field.name in given else pa.nulls(len(some), field.type)
            for field in schemas.RESULT_COMMON
        ]
        rows = pa.table([*columns, pa.StructArray.from_arrays(children, fields=list(struct))], schema=schema)
        mine = receipt(shard, items_digest=f"{shard:064d}")
        shards.commit_shard(store, shards.encode_shard(rows, mine), mine)
    return current_vectors(view_current(store.root), "vector")


def timed(queries: np.ndarray, search: Callable[[np.ndarray], object]) -> float:
    """Seconds for one query: the median."""
    times = []
    for query in queries:
        start = time.perf_counter()
        search(query[None])
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> int:
    """Measure; 0 whether the points hold or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    setup = f"{options.vectors:,} x {options.width} float16 in clusters, k = {K}"
    stored = clustered(options.vectors, options.width, clusters=1000)
    queries = clustered(options.queries, options.width, seed=1, clusters=1000) * 0.5 + stored[: options.queries] * 0.5
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = open_store(parse(str(folder / "out")))
        vectors = write_run(store, stored, folder)
        view = view_digest(view_current(store.root).committed, ["0001"])
        place = Place(store, "vector", "0" * 64)
        start = time.perf_counter()
        index = ensure_index(place, vectors, view)
        build_s = time.perf_counter() - start
        exact = nearest(vectors, queries, K)
        hits = sum(
            len({*ours.rows["key"].to_pylist()} & {*theirs.rows["key"].to_pylist()})
            for ours, theirs in zip(index.nearest(queries, K), exact, strict=True)
        )
        say("4, search, recall@10 of the approximate search", [hits / (K * len(queries))], at_least=0.95, setup=setup)
        held = unit(stored)
        streamed_s = timed(queries[:10], lambda query: nearest(vectors, query, K))
        held_s = timed(queries[:50], lambda query: np.argpartition(held @ unit(query)[0], -K)[-K:])
        index_s = timed(queries, lambda query: index.nearest(query, K))
        segments = len(index.manifest.segments)
        say(
            "4, search, exact (streamed from Parquet) / approximate (index open), time for a query",
            [streamed_s / index_s],
            at_least=20.0,
            setup=setup,
            exact_ms=round(1000 * streamed_s, 2),
            approximate_ms=round(1000 * index_s, 3),
            segments=segments,
            build_s=round(build_s, 1),
        )
        say(
            "4, search, a matrix product over vectors held in memory / approximate, time for a query",
            [held_s / index_s],
            at_least=1.0,
            setup=setup,
            held_ms=round(1000 * held_s, 2),
        )
    copies = stored[: options.vectors // 50]
    noisy = copies + np.random.default_rng(2).normal(size=copies.shape).astype(np.float32) * 0.02
    both = np.concatenate([stored[: options.vectors - len(copies)], noisy])
    start = time.perf_counter()
    found = near_duplicates(vectors_of(table_of(both, dtype="float16")), 0.98)
    pairs_s = time.perf_counter() - start
    first = options.vectors - len(copies)
    number = {int(row["key"][:6]): row["group"] for row in found.members.select(["key", "group"]).to_pylist()}
    together = sum(number.get(place, -1) == number.get(first + place, -2) for place in range(len(copies)))
    say(
        "4, duplicates, share of injected near-duplicates in one group with their original",
        [together / len(copies)],
        at_least=1.0,
        setup=f"{setup}, {len(copies):,} copies with noise, threshold 0.98, all pairs",
        groups=found.groups,
        seconds=round(pairs_s, 1),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
