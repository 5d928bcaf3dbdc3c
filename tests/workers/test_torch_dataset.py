"""Does PyTorch see every row once, with tensors where there are numbers, whatever the number of workers?"""

import pickle
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from tests.storage.compactions import compact_all
from tests.storage.many_runs import KIND, VECTOR, Row, Run, begin, commit, usable, write_runs
from winnow_storage import blobs, compaction_writer, uri
from winnow_storage.errors import UsageError
from winnow_workers.torch_dataset import RowDataset, current_dataset, run_dataset

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has

KEYS = [f"{number:02d}.jpg" for number in range(20)]
SNAPSHOT = dict.fromkeys(KEYS, "v1")


def vector(number: int) -> list[float]:
    return [number, number / 2, 0, 1]


def first() -> Run:
    """Twenty items in five shards: kinds and vectors; every fifth is unreadable."""
    rows = [
        Row(key, outcome="unreadable")
        if number % 5 == 4
        else Row(key, tasks={"kind": usable(label=key), "vector": usable(vector=vector(number))})
        for number, key in enumerate(KEYS)
    ]
    cut = [rows[start : start + 4] for start in range(0, 20, 4)]
    return Run("0001", SNAPSHOT, {"kind": KIND, "vector": VECTOR}, cut)


def second() -> Run:
    """Another task, over three items."""
    boxes = [pa.field("boxes", pa.list_(pa.int32()))]
    rows = [Row(key, tasks={"parts": usable(boxes=list(range(number)))}) for number, key in enumerate(KEYS[:3])]
    return Run("0002", SNAPSHOT, {"parts": boxes}, [rows])


@pytest.fixture
def output(tmp_path: Path) -> str:
    store = blobs.open_store(uri.parse(str(tmp_path / "out")))
    write_runs(store, [first(), second()], tmp_path)
    return str(tmp_path / "out")


def keys_of(dataset: RowDataset, workers: int) -> list[str]:
    loader = DataLoader(dataset, batch_size=3, num_workers=workers)
    return sorted(key for batch in loader for key in batch["key"])


@pytest.mark.parametrize("workers", [0, 2, 7])
def test_run_dataset__every_row_once(output: str, workers: int) -> None:
    assert keys_of(run_dataset(output, "0001", ["key"]), workers) == KEYS


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("compact", [True, False])
def test_current_dataset__every_row_once(
    output: str, workers: int, compact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction_writer, "GROUP_ROWS", 3)
    monkeypatch.setattr(compaction_writer, "PART_ROWS", 8)
    if compact:
        compact_all(blobs.open_store(uri.parse(output)))
    assert keys_of(current_dataset(output, ["key"]), workers) == KEYS


def test_current_dataset__tensors(output: str) -> None:
    loader = DataLoader(current_dataset(output, ["key", "vector.vector", "vector.score", "kind.label"]), batch_size=16)
    (batch,) = loader
    there = [number for number in range(20) if number % 5 != 4]
    assert batch["key"] == [KEYS[number] for number in there]
    assert batch["vector.vector"].dtype == torch.float16
    assert torch.equal(batch["vector.vector"], torch.tensor([vector(n) for n in there], dtype=torch.float16))
    assert torch.equal(batch["vector.score"], torch.full((16,), 0.5, dtype=torch.float64))
    assert batch["kind.label"] == batch["key"]


def test_current_dataset__null(output: str) -> None:
    rows = list(current_dataset(output, ["key", "vector.vector", "parts.boxes"], keep_null=True))
    assert [row["key"] for row in rows] == KEYS
    assert rows[4]["vector.vector"] is None
    assert torch.equal(rows[5]["vector.vector"], torch.tensor(vector(5), dtype=torch.float16))
    assert [row["parts.boxes"].tolist() for row in rows[:3]] == [[], [0], [0, 1]]
    assert rows[3]["parts.boxes"] is None
    rows = list(current_dataset(output, ["key", "vector.vector", "parts.boxes"]))
    assert [row["key"] for row in rows] == KEYS[:3]


def test_current_dataset__stays_as_it_was_when_it_was_made(output: str, tmp_path: Path) -> None:
    store = blobs.open_store(uri.parse(output))
    dataset, run = current_dataset(output, ["key", "kind.label"]), run_dataset(output, "0002", ["key"])
    before = list(dataset)
    again = Run("0003", SNAPSHOT, {"kind": KIND}, [[Row("00.jpg", tasks={"kind": usable(label="new")})]])
    begin(store, again, tmp_path)
    commit(store, again, shard=0)
    assert list(dataset) == before
    assert len(list(run)) == 3
    assert next(iter(current_dataset(output, ["kind.label"])))["kind.label"] == "new"


def test_datasets__travel_to_processes_that_are_spawned(output: str) -> None:
    for dataset in (current_dataset(output, ["key"]), run_dataset(output, "0001", ["key"])):
        assert list(pickle.loads(pickle.dumps(dataset))) == list(dataset)


def test_datasets__an_unknown_column(output: str) -> None:
    for path in ("nothing", "kind.nothing"):
        with pytest.raises(UsageError, match=f"no column '{path}'"):
            list(run_dataset(output, "0001", ["key", path]))
        with pytest.raises(UsageError, match=f"no column '{path}'"):
            list(current_dataset(output, ["key", path]))
