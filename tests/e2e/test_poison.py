"""Images that crash, hang, exhaust or leave their process: those end failed with their reason, nothing else does.

What many images do is not their fault: then the run stops.
"""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from tests.e2e.winnow import photographs, winnow
from tests.faults.poison import Harm, save_poison
from winnow_jobs.retry import SYSTEMIC_ITEMS

SPEC = """\
name: poison
corpus: photos
output: out
ledger: sqlite:///{folder}/ledger.db
tasks:
  - {{name: vector, operator: embed, model: builtin/fingerprint}}
  - {{name: poison, operator: "tests.faults.poison:PoisonOperator"}}
run: {{actors: 1, shard_items: 16, item_deadline_s: 5, item_memory_bytes: 536870912}}
"""
ROOT = Path(__file__).parents[2]
REASONS = {
    Harm.RAISE: "ValueError: this image is cursed",
    Harm.SEGFAULT: "crashed: SIGSEGV",
    Harm.HANG_WITH_THE_LOCK: "hung: no answer within 5 s",
    Harm.MEMORY: "MemoryError",
    Harm.EXIT: "crashed: exit 0",
}


def test_run__poisoned_images_alone_fail(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 60)
    poisoned = {
        save_poison(tmp_path / f"photos/{7 * number:04d}-{harm.name}.png", harm).name: REASONS[harm]
        for number, harm in enumerate(REASONS)
    }
    spec = tmp_path / "job.yaml"
    spec.write_text(SPEC.format(folder=tmp_path), encoding="utf-8")
    ended = winnow("run", spec, "--json", cwd=tmp_path, environ={"PYTHONPATH": str(ROOT)})
    assert ended.code == 3, ended.err
    assert ended.record["outcomes"]["failed"] == len(poisoned)
    paths = sorted((tmp_path / "out/runs/0001/results").glob("*.parquet"))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    assert sorted(row["key"] for row in rows) == sorted(path.name for path in (tmp_path / "photos").iterdir())
    assert set(Counter(row["key"] for row in rows).values()) == {1}
    for row in rows:
        if row["key"] in poisoned:
            assert row["outcome"] == "failed"
            assert row["failed_tasks"] == ["poison"]
            assert poisoned[row["key"]] in row["reason"]
            assert row["vector"]["error"] is None
        else:
            assert row["outcome"] == "done", row


def test_run__what_many_images_raise_stops_it(tmp_path: Path) -> None:
    shards, shard_items = 20, 16
    for number in range(shards * shard_items):
        save_poison(tmp_path / f"photos/{number:04d}.png", Harm.RAISE)
    spec = tmp_path / "job.yaml"
    spec.write_text(SPEC.format(folder=tmp_path), encoding="utf-8")
    ended = winnow("run", spec, "--json", cwd=tmp_path, environ={"PYTHONPATH": str(ROOT)})
    assert ended.code == 1, ended.err
    assert "run 0001 was stopped: " in ended.record["error"]
    assert "not the images' fault: failed: poison: ValueError: this image is cursed" in ended.record["error"]
    assert "the same command goes on with this run" in ended.record["hint"]
    assert "winnow run SPEC --retry failed" in ended.record["hint"]
    committed = len(list((tmp_path / "out/runs/0001/results").glob("*.parquet")))
    assert SYSTEMIC_ITEMS <= committed * shard_items < shards * shard_items / 2  # at once, not in the end
    assert not (tmp_path / "out/runs/0001/summary.json").exists()  # it stays open
