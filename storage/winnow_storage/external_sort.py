"""How is more sorted than memory holds? Sorted runs in temporary files, merged a batch of each at a time."""

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

RUN_BYTES = 64 << 20  # of Arrow data that is sorted in memory: with the sorted copy, and 16 open runs, under 250 MB
FAN_IN = 16  # runs that are merged at a time
_ROWS = 8192  # per batch of a run


def sorted_unique(batches: Iterable[pa.RecordBatch], *, key: str) -> Iterator[pa.RecordBatch]:
    """The rows of `batches` (of one schema) sorted by the UTF-8 bytes of the text column `key`, each key once.

    Of rows with an equal key one stays, the same one whenever the same batches come.
    """
    with tempfile.TemporaryDirectory(prefix="winnow-sort-") as name:
        folder = Path(name)
        runs: list[Path] = []
        for batch in _sorted_runs(batches, key):
            runs.append(_written(folder / f"run-{len(runs)}", [batch]))
        for level in itertools.count():
            if len(runs) <= FAN_IN:
                break
            groups = [runs[at : at + FAN_IN] for at in range(0, len(runs), FAN_IN)]
            runs = [
                _written(folder / f"merged-{level}-{at}", _merged([_read(run) for run in group], key))
                for at, group in enumerate(groups)
            ]
        yield from _unique(_merged([_read(run) for run in runs], key), key)


def _sorted_runs(batches: Iterable[pa.RecordBatch], key: str) -> Iterator[pa.RecordBatch]:
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.nbytes for each in waiting) >= RUN_BYTES:
            yield _in_order(waiting, key)
            waiting = []
    if waiting:
        yield _in_order(waiting, key)


def _in_order(batches: list[pa.RecordBatch], key: str) -> pa.RecordBatch:
    joined = pa.concat_batches(batches)
    return joined.take(pc.sort_indices(joined, sort_keys=[(key, "ascending")]))


def _merged(runs: list[Iterator[pa.RecordBatch]], key: str) -> Iterator[pa.RecordBatch]:
    """All rows in order: what lies up to the least of the open batches' last keys is complete, so it can go out."""
    heads = [(batch, run) for run in runs if (batch := next(run, None)) is not None]
    while heads:
        bound = min(batch.column(key)[-1].as_py() for batch, _ in heads)
        ready, still = [], []
        for batch, run in heads:
            count = pc.sum(pc.less_equal(batch.column(key), bound)).as_py()
            ready.append(batch.slice(0, count))
            rest = batch.slice(count) if count < batch.num_rows else next(run, None)
            if rest is not None:
                still.append((rest, run))
        heads = still
        yield _in_order(ready, key) if len(ready) > 1 else ready[0]


def _unique(batches: Iterable[pa.RecordBatch], key: str) -> Iterator[pa.RecordBatch]:
    last = None
    for batch in batches:
        keys = batch.column(key)
        before = pa.concat_arrays([pa.array([last], keys.type), keys.slice(0, len(keys) - 1)])
        last = keys[-1].as_py()
        new = batch.filter(pc.fill_null(pc.not_equal(keys, before), fill_value=True))
        if new.num_rows:
            yield new


def _written(file: Path, batches: Iterable[pa.RecordBatch]) -> Path:
    first = next(batches := iter(batches))
    with pa.ipc.new_stream(str(file), first.schema) as writer:
        for batch in itertools.chain([first], batches):
            for at in range(0, batch.num_rows, _ROWS):
                writer.write_batch(batch.slice(at, _ROWS))
    return file


def _read(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(file)) as opened, pa.ipc.open_stream(opened) as reader:
        yield from reader
    file.unlink()
