"""Rows of runs, of `current`, of a compaction and of files, all as `winnow evaluate` reads them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.nights import write
from tests.jobs.test_compact_command import run_cli
from tests.storage.many_runs import Row, Run, failed, usable
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.uri import parse

TOP = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())]))
CLASSIFY = [pa.field("label", pa.string()), pa.field("top", TOP)]
SNAPSHOT = {f"{name}.jpg": "v1" for name in "abcdef"}
TRUTH = "key,label\na.jpg,cat\nb.jpg,cat\nc.jpg,dog\nd.jpg,dog\nz.jpg,dog\n"


def said(label: str, p_ok: float) -> dict[str, object]:
    return usable(label=label, p_ok=p_ok, top=[{"label": label, "score": p_ok}])


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Two runs: b is predicted again and now rightly, c cannot be processed, d cannot be read, e has no truth."""
    store: BlobStore = open_store(parse(str(tmp_path / "out")))
    first = [
        Row("a.jpg", tasks={"kind": said("cat", 0.9)}),
        Row("b.jpg", tasks={"kind": said("dog", 0.6)}),
        Row("c.jpg", tasks={"kind": failed()}),
        Row("d.jpg", tasks={"kind": None}, outcome="unreadable"),
        Row("e.jpg", tasks={"kind": said("cat", 0.8)}),
    ]
    write(store, Run("0001", SNAPSHOT, {"kind": CLASSIFY}, [first[:3], first[3:]]), tmp_path)
    write(
        store, Run("0002", SNAPSHOT, {"kind": CLASSIFY}, [[Row("b.jpg", tasks={"kind": said("cat", 0.7)})]]), tmp_path
    )
    (tmp_path / "truth.csv").write_text(TRUTH)
    spec = tmp_path / "job.yaml"
    spec.write_text(
        "name: shelves\ncorpus: corpus\noutput: out\ntasks: [{name: kind, operator: classify, model: m.onnx}]\n"
    )
    return spec


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    code, out, _ = run_cli(capsys, "evaluate", *arguments, "--json")
    return code, json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_evaluate__a_run_current_and_a_compaction(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = ["--truth", job.parent / "truth.csv"]
    code, run = evaluated(capsys, job, *truth, "--run", "0001")
    assert (code, run["n"], run["failed"], run["measures"]["accuracy"]) == (0, 4, 2, 0.25)
    assert run["without_truth"] == {"count": 1, "some": ["e.jpg"]}
    assert run["without_row"] == {"count": 1, "some": ["z.jpg"]}
    assert run["without_confidence"] == 2
    code, current = evaluated(capsys, job, *truth)
    assert (current["predictions"], current["n"], current["measures"]["accuracy"]) == ("current", 4, 0.5)
    assert current["intervals"]["accuracy"]["method"] == "wilson"
    code, record = evaluated(capsys, job, *truth, "--compaction")
    assert (code, record["hint"]) == (2, "winnow compact SPEC")
    assert run_cli(capsys, "compact", job)[0] == 0
    code, compacted = evaluated(capsys, job, *truth, "--compaction")
    assert compacted["measures"] == current["measures"]
    assert compacted["predictions"] == "compaction 1"


def test_evaluate__every_item_is_in_the_table_of_items(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = job.parent / "items.parquet"
    evaluated(capsys, job, "--truth", job.parent / "truth.csv", "--run", "0001", "--per-item", out)
    rows = {row["key"]: row for row in pq.read_table(out).to_pylist()}
    states = {key: (row["status"], row["ok"]) for key, row in rows.items()}
    assert states == {
        "a.jpg": ("measured", True),
        "b.jpg": ("measured", False),
        "c.jpg": ("failed", False),
        "d.jpg": ("failed", False),
        "e.jpg": ("without_truth", None),
        "z.jpg": ("without_row", None),
    }
    assert rows["a.jpg"]["confidence"] == pytest.approx(0.9)
    assert rows["a.jpg"]["item_id"] is not None


def test_evaluate__text_page_and_limits(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = job.parent / "page.html"
    common = ["evaluate", job, "--truth", job.parent / "truth.csv", "--html", page]
    code, out, _ = run_cli(capsys, *common, "--fail-under", "accuracy=0.9", "--fail-over", "ece=0.9")
    assert code == 1
    assert out.startswith("kind (classify), current: 4 items of 5 rows; truth: ")
    assert "2 of them failed in this task and count as wrong" in out
    assert "1 rows without truth: e.jpg" in out
    assert "accuracy is 0.5000, and must be at least 0.9" in out
    assert "ece is" not in out
    text = page.read_text()
    assert all(f"<h3>{title}</h3>" in text for title in ("Reliability", "Risk and coverage", "Confusion"))
    assert "http" not in text.replace("http-equiv", "")  # nothing is fetched
    code, out, _ = run_cli(capsys, *common, "--fail-under", "accuracy=0.5")
    assert code == 0
    for option, hint in (("accuracy", "accuracy=0.95"), ("nothing=1", "measures: ok_share, accuracy")):
        code, _, err = run_cli(capsys, *common, "--fail-under", option)
        assert (code, hint in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "none"], "the spec has no task 'none'"),
        (["--run", "0001", "--compaction"], "exclude each other"),
        (["--run", "0009"], "has no run 0009"),
        (["--normalise", "upper"], "no normalisation"),
        (["--truth", "labels"], "nobody has answered anything about kind yet"),
        (["--truth", "nowhere"], "there is no truth at nowhere"),
    ],
)
def test_evaluate__mistakes(job: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    truth = [] if "--truth" in arguments else ["--truth", str(job.parent / "truth.csv")]
    code, record = evaluated(capsys, job, *truth, *arguments)
    assert (code, said in record["error"]) == (2, True), record


def test_evaluate__files_of_predictions_without_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "truth.csv").write_text("key,label\na,cat\nb,dog\n")
    rows = [{"key": "x/a", "label": "cat", "score": 0.5}, {"key": "x/b", "label": "cat", "score": 0.9}]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "flat.parquet")
    nested = [{"key": row["key"], "kind": {"label": row["label"], "score": row["score"]}} for row in rows]
    pq.write_table(pa.Table.from_pylist(nested), tmp_path / "nested.parquet")
    for name in ("p.json", "p.jsonl", "flat.parquet", "nested.parquet"):
        arguments = ["--truth", tmp_path / "truth.csv", "--predictions", tmp_path / name, "--operator", "classify"]
        code, record = evaluated(capsys, *arguments, "--task", "kind")
        assert (code, record["n"], record["measures"]["accuracy"]) == (0, 2, 0.5), name
        assert record["confidence"] == "score"
        assert record["measures"]["ece"] == pytest.approx(0.7)  # (0.5 + 0.9) / 2: 0.5 right, 0.9 wrong
    (tmp_path / "p.json").write_text(json.dumps([*rows, {"key": "x/a", "label": "cat"}]))
    code, record = evaluated(capsys, "--truth", tmp_path / "truth.csv", "--predictions", tmp_path / "p.json",
                             "--operator", "classify")  # fmt: skip
    assert (code, "x/a is there more than once" in record["error"]) == (2, True)
    (tmp_path / "p.json").write_text(json.dumps([{"key": "x/a", "lable": "cat"}]))
    code, record = evaluated(capsys, "--truth", tmp_path / "truth.csv", "--predictions", tmp_path / "p.json",
                             "--operator", "classify")  # fmt: skip
    assert (code, "record 0 (x/a): it has no label" in record["error"]) == (2, True)


def test_evaluate__results_as_coco_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotation = {"id": 1, "image_id": 7, "category_id": 2, "bbox": [0, 0, 10, 10]}
    document = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
        "categories": [{"id": 2, "name": "cat"}],
        "annotations": [annotation],
    }
    (tmp_path / "coco.json").write_text(json.dumps(document))
    found = [{"image_id": 7, "category_id": 2, "bbox": [0, 0, 10, 9], "score": 0.9}]
    (tmp_path / "results.json").write_text(json.dumps(found))
    arguments = ["--truth", tmp_path / "coco.json", "--predictions", tmp_path / "results.json", "--operator", "detect"]
    code, record = evaluated(capsys, *arguments)
    assert (code, record["n"], record["measures"]["ok_share"]) == (0, 2, 1.0)  # nothing was found where nothing is
    assert record["measures"]["ap50"] == pytest.approx(1.0)
    assert record["measures"]["map"] == pytest.approx(0.9)  # covers 0.9: right up to IoU 0.9
    (tmp_path / "results.json").write_text(json.dumps([found[0] | {"image_id": 9}]))
    code, record = evaluated(capsys, *arguments)
    assert (code, "record 0: its image 9" in record["error"]) == (2, True)
