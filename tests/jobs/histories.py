"""What earlier runs may have left in an output: plans and shard objects as a run writes them, with rows as told."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from winnow_annotation.policies import ReviewSpec
from winnow_jobs.draft import list_items
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedCorpus, ResolvedSpec, ResolvedTask
from winnow_jobs.run import Tally, finish
from winnow_jobs.runs import FORMAT, PlanDocument, Runs
from winnow_jobs.spec import ExecutionSpec
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.ids import item_id
from winnow_storage.parts import Part, PartWriter, WorkReader
from winnow_storage.schemas import SNAPSHOT, Outcome, result_schema
from winnow_storage.shards import Receipt, encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.decode import DecodeLimits
from winnow_workers.models.resolve import resolve_model

CORPUS = "shelves"
DAY_0 = datetime(2026, 11, 1, 20, tzinfo=UTC)  # run 0001 begins a day later, and so on


@dataclass(frozen=True, slots=True)
class Row:
    """How an item ended: for each task that ran, whether there is a prediction (True) or an error (False)."""

    key: str
    version: str = "v1"
    outcome: Outcome = Outcome.DONE
    tasks: Mapping[str, bool] = field(default_factory=lambda: {"kind": True})


def task(name: str, *, revision: int = 1, operator: str = "embed") -> ResolvedTask:
    return ResolvedTask(
        name=name, operator=operator, revision=revision, params={}, model=resolve_model("builtin/fingerprint")
    )


def spec(
    folder: Path, *tasks: ResolvedTask, corpus_id: str = CORPUS, run: ExecutionSpec | None = None, job: str = "shelves"
) -> ResolvedSpec:
    return ResolvedSpec(
        job=job,
        corpus=ResolvedCorpus(id=corpus_id, uri=str(folder / "corpus"), include=("*.jpg",)),
        output=str(folder / "out"),
        single_writer=False,
        tasks=tasks or (task("kind"),),
        review=ReviewSpec(),
        run=run or ExecutionSpec(),
        limits=DecodeLimits(),
        ledger=None,
        registry=str(folder / "registry"),
    )


def add_run(
    runs: Runs,
    resolved: ResolvedSpec,
    shards: Sequence[Sequence[Row] | None],
    *,
    selection: Selection | None = None,
    corpus: Mapping[str, str] | None = None,
) -> PlanDocument:
    """The next run of an output, with these rows in its shards; None for a shard that was never committed.

    `corpus` has the versions of its snapshot by key.
    """
    number = len(runs.ids()) + 1
    items = sum(len(rows or ()) for rows in shards)
    plan = PlanDocument(
        format=FORMAT,
        run_id=f"{number:04d}",
        created_at=DAY_0 + timedelta(days=number),
        code_version="0",
        spec=resolved,
        selection=selection or Selection(),
        snapshot=() if corpus is None else put_snapshot(runs, f"{number:04d}", corpus),
        work=(),
        corpus_items=items,
        other_files=0,
        cold_items=0,
        items=items,
        total_bytes=0,
        shards=len(shards),
        shard_items=max((len(rows or ()) for rows in shards), default=1),
    )
    assert runs.begin(plan, ())
    for shard, rows in enumerate(shards):
        if rows is not None:
            commit(runs.store, plan, shard, rows)
    return plan


def put_snapshot(runs: Runs, run_id: str, corpus: Mapping[str, str]) -> tuple[Part, ...]:
    """The listing of these versions by key, in row groups of four."""
    with tempfile.TemporaryDirectory() as folder:
        writer = PartWriter(Path(folder) / "snapshot", SNAPSHOT, group_rows=4)
        for window in listed(corpus):
            writer.add(window)
        found = []
        for file in writer.finish():
            key = f"runs/{run_id}/snapshot/{file.name}"
            runs.store.put_if_absent(key, file.path.read_bytes())
            found.append(Part(key, file.bytes, file.rows))
    return tuple(found)


def commit(store: BlobStore, plan: PlanDocument, shard: int, rows: Sequence[Row]) -> None:
    schema = result_schema({one.name: [] for one in plan.tasks()})
    table = pa.Table.from_pylist([_row(row, plan, shard) for row in rows], schema=schema)
    assert store.put_if_absent(shard_key(plan.run_id, shard), encode_shard(table, receipt(plan, shard, rows)))


def work_off(runs: Runs, plan: PlanDocument, versions: Mapping[str, str] | None = None) -> None:
    """Commit every shard of a real plan, all tasks predicted, and close the run; `versions` are those that were read,
    by key, where they are not those of the listing.
    """
    tally = Tally()
    for shard in range(plan.shards):
        tally.add(work_off_shard(runs, plan, shard, versions), now=True)
    finish(runs, plan, tally, 1.0)


def work_off_shard(runs: Runs, plan: PlanDocument, shard: int, versions: Mapping[str, str] | None = None) -> Receipt:
    """Commit one shard of a real plan, as `work_off` does; its receipt."""
    items = WorkReader(runs.store, plan.work).rows(shard).select(["key", "version"]).to_pylist()
    predicted = {one.name: True for one in plan.tasks()}
    rows = [Row(one["key"], (versions or {}).get(one["key"], one["version"]), tasks=predicted) for one in items]
    commit(runs.store, plan, shard, rows)
    return receipt(plan, shard, rows)


def versions(resolved: ResolvedSpec) -> dict[str, str]:
    """The corpus as it is listed now."""
    windows = [pa.Table.from_batches([window]).select(["key", "version"]) for window in list_items(resolved)]
    return {row["key"]: row["version"] for window in windows for row in window.to_pylist()}


def receipt(plan: PlanDocument, shard: int, rows: Sequence[Row]) -> Receipt:
    outcomes = [str(row.outcome) for row in rows]
    return Receipt(
        run_id=plan.run_id,
        shard=shard,
        job=plan.spec.job,
        plan_digest=plan.digest,
        items_digest="",
        code_version="0",
        attempt="",
        outcomes={name: outcomes.count(name) for name in outcomes},
        predictions={},
        errors={},
        models={},
        bytes=0,
        seconds={},
    )


def _row(row: Row, plan: PlanDocument, shard: int) -> dict[str, object]:
    found = {
        name: {"model": "m"} if predicted else {"error": "it failed"}
        for name, predicted in row.tasks.items()
        if name in {one.name for one in plan.tasks()}
    }
    return {
        "item_id": item_id(plan.spec.corpus.id, row.key),
        "key": row.key,
        "uri": f"file:///{row.key}",
        "version": row.version,
        "outcome": str(row.outcome),
        "failed_tasks": [name for name, predicted in row.tasks.items() if not predicted],
        "run_id": plan.run_id,
        "shard": shard,
        **found,
    }


def listed(versions: Mapping[str, str], *, window_rows: int = 16384) -> list[pa.RecordBatch]:
    """A sorted listing of keys with their versions, 10 bytes each, in windows."""
    keys = sorted(versions, key=lambda key: key.encode())
    rows = [
        {"item_id": item_id(CORPUS, key), "key": key, "uri": f"file:///{key}", "version": versions[key], "bytes": 10}
        for key in keys
    ]
    return pa.Table.from_pylist(rows, schema=SNAPSHOT).to_batches(max_chunksize=window_rows)


def make_corpus(folder: Path, count: int) -> list[str]:
    """`count` files that a listing takes and one that it does not; their keys in order."""
    keys = [f"{number // 10}/{number:04d}.jpg" for number in range(count)]
    for key in keys:
        place = folder / "corpus" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * 7)
    (folder / "corpus/notes.txt").write_text("no image")
    return sorted(keys)


def output_runs(folder: Path) -> Runs:
    return Runs(open_store(parse(str(folder / "out"))))
