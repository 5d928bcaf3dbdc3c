"""Vectors for tests: clustered ones, as embeddings are, with rows that say of what they would be."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from winnow_storage.ids import item_id
from winnow_storage.schemas import PREDICTION_COMMON
from winnow_storage.vectors import Vectors


def clustered(
    count: int, width: int, *, seed: int = 0, clusters: int = 50, spread: float = 0.5
) -> npt.NDArray[np.float32]:
    """Gaussian clusters, float32 (count, width)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, width))
    noise = rng.normal(size=(count, width)) * spread
    found: npt.NDArray[np.float32] = (centres[rng.integers(0, clusters, count)] + noise).astype(np.float32)
    return found


def table_of(
    vectors: npt.NDArray[np.float32], *, dtype: str = "float32", keys: Sequence[str] | None = None, run_id: str = "0001"
) -> pa.Table:
    """Rows of a task `vector`, one for each vector."""
    names = [f"{place:06d}.jpg" for place in range(len(vectors))] if keys is None else list(keys)
    kind = pa.float16() if dtype == "float16" else pa.float32()
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(dtype).ravel(), kind), vectors.shape[1])
    nulls = pa.nulls(len(vectors))
    own = {field.name: nulls.cast(field.type) for field in PREDICTION_COMMON}
    own |= {"model": pa.repeat("m", len(vectors)), "vector": values, "run_id": pa.repeat(run_id, len(vectors))}
    size = pa.array(np.full(len(vectors), 10, np.int32))
    return pa.table(
        {
            "item_id": [item_id("c", name) for name in names],
            "key": names,
            "uri": [f"s3://b/{name}" for name in names],
            "version": ["v1"] * len(names),
            "width": size,
            "height": size,
            "bytes": size.cast(pa.int64()),
            "vector": pa.StructArray.from_arrays(list(own.values()), names=list(own)),
        }
    )


def vectors_of(table: pa.Table, *, rows: int = 1000) -> Vectors:
    """The vectors of a table, given in tables of `rows`."""

    def tables(_columns: Sequence[str]) -> Iterator[pa.Table]:
        for start in range(0, table.num_rows, rows):
            yield table.slice(start, rows)

    return Vectors("vector", tables)


def brute_force(vectors: npt.NDArray[np.float32], query: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The cosine of every vector with a query, in float64."""
    wide, asked = vectors.astype(np.float64), query.astype(np.float64)
    return np.asarray((wide @ asked) / (np.linalg.norm(wide, axis=1) * np.linalg.norm(asked)))
