"""An output with many runs, and what `current` must be over them: by a dictionary, row by row."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.storage.shard_rows import receipt
from winnow_storage import ids, schemas, shards
from winnow_storage.blobs import BlobStore
from winnow_storage.parts import SNAPSHOT_GROUP_ROWS, Part, PartWriter

Fields = Mapping[str, Sequence[pa.Field]]
KIND = [pa.field("label", pa.string())]
VECTOR = [pa.field("vector", pa.list_(pa.float16(), 4))]
WIDTH_PX = 640


def usable(**own: object) -> dict[str, object]:
    """A prediction."""
    return {"model": "sha256-of-it", "score": 0.5, **own}


def failed(error: str = "ValueError: no") -> dict[str, object]:
    """A struct of a task that failed."""
    return {"model": "sha256-of-it", "error": error}


@dataclass(frozen=True)
class Row:
    """A committed row. The outcome follows from the structs unless it is given."""

    key: str
    version: str = "v1"
    tasks: Mapping[str, dict[str, object] | None] = field(default_factory=dict)
    outcome: str | None = None

    def as_dict(self, run_id: str, shard: int) -> dict[str, Any]:
        wrong = [name for name, struct in self.tasks.items() if struct is not None and struct.get("error")]
        outcome = self.outcome or ("failed" if wrong else "done")
        known = outcome in ("done", "failed")
        return {
            "item_id": ids.item_id("corpus", self.key),
            "key": self.key,
            "uri": f"s3://of-run-{run_id}/{self.key}",
            "version": self.version,
            "content_sha256": f"digest of {self.key}" if outcome not in ("missing", "unavailable") else None,
            "width": WIDTH_PX if known else None,
            "outcome": outcome,
            "reason": None if outcome == "done" else f"{outcome} in {run_id}",
            "failed_tasks": wrong,
            "run_id": run_id,
            "shard": shard,
            **self.tasks,
        }


@dataclass(frozen=True)
class Run:
    """A run: its snapshot (key -> version), the own fields of its tasks, its shards' rows, which of them stand."""

    run_id: str
    snapshot: Mapping[str, str]
    tasks: Fields
    shards: Sequence[Sequence[Row]]
    committed: frozenset[int] | None = None  # None: all of its shards

    def standing(self) -> list[int]:
        return [number for number in range(len(self.shards)) if self.committed is None or number in self.committed]

    def rows(self) -> Iterable[dict[str, Any]]:
        for number in self.standing():
            for row in self.shards[number]:
                yield row.as_dict(self.run_id, number)


def begin(store: BlobStore, run: Run, folder: Path) -> None:
    """Put a run's snapshot, and of its plan what readers need."""
    document = {
        "shards": len(run.shards),
        "snapshot": [asdict(part) for part in put_snapshot(store, run, folder)],
    }
    store.put(f"runs/{run.run_id}/plan.json", ids.canonical_json(document).encode())


def put_snapshot(store: BlobStore, run: Run, folder: Path) -> tuple[Part, ...]:
    """Put the parts of a run's snapshot."""
    writer = PartWriter(folder / f"snapshot-{uuid.uuid4().hex}", schemas.SNAPSHOT, group_rows=SNAPSHOT_GROUP_ROWS)
    for batch in snapshot_table(run).to_batches():
        writer.add(batch)
    parts = []
    for file in writer.finish():
        key = f"runs/{run.run_id}/snapshot/{file.name}"
        store.put_if_absent(key, file.path.read_bytes())
        parts.append(Part(key, file.bytes, file.rows))
    return tuple(parts)


def commit(store: BlobStore, run: Run, *, shard: int) -> None:
    """Commit one shard of a run."""
    rows = run.shards[shard]
    table = pa.Table.from_pylist(
        [row.as_dict(run.run_id, shard) for row in rows], schema=schemas.result_schema(run.tasks)
    )
    mine = receipt(shard, run_id=run.run_id, items_digest=f"{run.run_id}-{shard}")
    shards.commit_shard(store, shards.encode_shard(table, mine), mine)


def write_runs(store: BlobStore, runs: Iterable[Run], folder: Path) -> None:
    """Begin every run, and commit its shards."""
    for run in runs:
        begin(store, run, folder)
        for shard in run.standing():
            commit(store, run, shard=shard)


def snapshot_table(run: Run) -> pa.Table:
    """The snapshot, in the order that a listing has."""
    rows = [
        {"item_id": ids.item_id("corpus", key), "key": key, "uri": f"s3://now-{run.run_id}/{key}", "version": version}
        for key, version in sorted(run.snapshot.items(), key=lambda one: one[0].encode())
    ]
    return pa.Table.from_pylist(rows, schema=schemas.SNAPSHOT)


def naive_current(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What `current` must be over `runs`, oldest first."""
    tasks: dict[str, set[str]] = {}
    for run in runs:
        for name, own in run.tasks.items() if run.standing() else ():
            tasks.setdefault(name, set()).update(field.name for field in schemas.prediction_type(own))
    found = []
    for key, version in sorted(runs[-1].snapshot.items(), key=lambda one: one[0].encode()):
        rows = [row for run in runs for row in run.rows() if (row["key"], row["version"]) == (key, version)]
        if rows:
            found.append(_naive_row(rows, tasks, uri=f"s3://now-{runs[-1].run_id}/{key}"))
    return found


def naive_counts(runs: Sequence[Run]) -> tuple[int, int]:
    """How many items are pending, and how many are gone."""
    seen = {(row["key"], row["version"]) for run in runs for row in run.rows()}
    snapshot = runs[-1].snapshot
    return len(set(snapshot.items()) - seen), len({key for key, _ in seen} - set(snapshot))


def _naive_row(rows: list[dict[str, Any]], tasks: Mapping[str, set[str]], *, uri: str) -> dict[str, Any]:
    newest = rows[-1]
    current = {name: newest.get(name) for name in schemas.RESULT_COMMON.names} | {"uri": uri}
    for name in ("content_sha256", "bytes", "format", "width", "height"):
        current[name] = next((row[name] for row in reversed(rows) if row.get(name) is not None), None)
    for task, fields in tasks.items():
        current[task] = None
        for row in rows:
            struct = row.get(task)
            if struct is not None and struct.get("model") is not None and struct.get("error") is None:
                current[task] = {name: struct.get(name) for name in fields} | {"run_id": row["run_id"]}
    failed = {name for row in rows for name in row["failed_tasks"]}
    current["failed_tasks"] = [name for name in failed if current[name] is None]
    return current


def comparable(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose `failed_tasks` can be compared whatever its order."""
    return [row | {"failed_tasks": sorted(row["failed_tasks"])} for row in rows]
