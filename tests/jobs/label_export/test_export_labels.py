"""`winnow export labels`: files that others read, and that `winnow evaluate` reads back as what people said."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.jobs.evaluation.test_truth import label
from winnow_annotation.kinds.masks import from_coco, to_coco
from winnow_annotation.pull import _put
from winnow_jobs.cli import main
from winnow_jobs.consensus.asked import put_asked
from winnow_jobs.evaluation.task import truth_of
from winnow_jobs.evaluation.true_items import TruthSet
from winnow_jobs.evaluation.truth import read_truth
from winnow_jobs.runs import Runs
from winnow_storage.blobs import open_store
from winnow_storage.ids import item_id
from winnow_storage.records import Label
from winnow_storage.schemas import ROUTES
from winnow_storage.uri import parse

TASKS = {"kind": "classify", "tags": "classify", "node": "classify", "defect": "anomaly", "text": "ocr",
         "boxes": "detect", "parts": "segment", "look": "embed"}  # fmt: skip


class Job:
    """A spec and an output with labels, and nothing else."""

    def __init__(self, folder: Path, labels: Sequence[Label]) -> None:
        self.spec, self.runs = folder / "job.yaml", Runs(open_store(parse(str(folder / "out"))))
        tasks = [f"  - {{name: {name}, operator: {operator}, model: models/m}}" for name, operator in TASKS.items()]
        self.spec.write_text("\n".join(["name: x", "corpus: photos", "output: out", "tasks:", *tasks]))
        _put(labels, self.runs.store)

    def truth(self, task: str) -> TruthSet:
        """What `winnow evaluate --truth labels` takes."""
        return truth_of("labels", self.runs, task, TASKS[task], classes=(), purposes=())

    def sized(self, task: str, key: str, height: int, width: int) -> None:
        """A row that says how large an image is that people were asked about."""
        named = {"job": "x", "run_id": "0001", "task": task, "operator": TASKS[task], "version": "v1"}
        named |= {
            "item_id": item_id("c", key),
            "key": key,
            "uri": "x",
            "route": "gold",
            "reason": "gold_draw",
            "dedupe_key": f"{task} {key}",
        }
        row = dict.fromkeys(ROUTES.names) | named | {"height": height, "width": width, "round": 1}
        put_asked(self.runs.store, [row], [])


def said(task: str, key: str, value: Any, *, at: int = 1, who: str = "ann", **more: Any) -> Label:
    own = {"task": task, "operator": TASKS[task], "item_id": item_id("c", key), "annotator": who, "job": "x"}
    own |= {"value": None if value is None else json.dumps(value)}
    name = f"{task} {key} {who}"
    return label(key, None, annotation=name, at=at, **(own | more))


def mask(label: str, *cells: tuple[int, int], height: int = 4, width: int = 6) -> dict[str, Any]:
    values = np.zeros((height, width), bool)
    for row, column in cells:
        values[row, column] = True
    return {"label": label, "area_px": len(cells), "rle": to_coco(values)}


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any]:
    with pytest.raises(SystemExit) as ended:
        main(["export", "labels", *map(str, arguments), "--json"])
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


TABLES = {
    "kind": [("a/1.jpg", {"label": "tin, large"}), ("a/2.jpg", {"label": "j\u00e4r"})],
    "tags": [("a/1.jpg", {"labels": ["old", "red"]}), ("a/2.jpg", {"labels": []})],
    "node": [("a/1.jpg", {"label": "dog", "path": ["animal", "dog"]}), ("a/2.jpg", {"label": "car", "path": ["car"]})],
    "defect": [("a/1.jpg", {"is_anomalous": True, "regions": []}), ("a/2.jpg", {"is_anomalous": False})],
    "text": [("a/1.jpg", {"full_text": 'one "1"\ntwo', "lines": []}), ("a/2.jpg", {"full_text": ""})],
}


def test_export__csv_is_read_back_as_what_people_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [said(task, key, value) for task, rows in TABLES.items() for key, value in rows]
    labels += [
        said("kind", "a/3.jpg", {"label": None}),  # none was chosen
        said("kind", "a/4.jpg", {"label": "tin"}, was_cancelled=True),
        said("kind", "a/5.jpg", {"label": "tin"}),
        said("kind", "a/5.jpg", None, at=2, event="deleted"),
        said("kind", "a/1.jpg", {"label": "tin, large"}, at=3, event="updated"),
    ]
    job = Job(tmp_path, labels)
    code, record = run(capsys, job.spec, "--format", "csv", "--to", tmp_path / "csv")
    assert (code, record["files"]) == (0, len(TABLES))
    for task in TABLES:
        truth = read_truth(tmp_path / "csv" / f"{task}.csv", TASKS[task])
        expected = job.truth(task)
        assert truth.items == expected.items, task
        assert len(truth.items) == 2
    kind = next(one for one in record["tasks"] if one["task"] == "kind")
    counts = {name: kind[name] for name in ("items", "answers", "skipped", "deleted", "empty", "not_last")}
    assert counts == {"items": 3, "answers": 3, "skipped": 1, "deleted": 1, "empty": 1, "not_last": 0}
    lines = (tmp_path / "csv/kind.csv").read_text().splitlines()
    assert lines[0] == "key,label,item_id,version,answers,people,purposes"
    assert lines[1] == f'a/1.jpg,"tin, large",{item_id("c", "a/1.jpg")},v1,1,ann,audit'


def test_export__neighbours_as_lists_of_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = {"b.jpg": True, "c.jpg": False, "d.jpg": None, "e.jpg": True}
    shown = [{"item_id": key, "key": key, "version": "v", "score": 0.5, "same": one} for key, one in same.items()]
    nothing = [{**one, "same": None} for one in shown]
    job = Job(tmp_path, [said("look", "a.jpg", {"neighbours": shown}), said("look", "z.jpg", {"neighbours": nothing})])
    code, record = run(capsys, job.spec, "--format", "csv", "--to", tmp_path / "look.csv")
    assert (code, record["tasks"][0]["items"], record["tasks"][0]["empty"]) == (0, 2, 1)
    head, line = (tmp_path / "look.csv").read_text().splitlines()
    assert head.startswith("key,same,different,item_id,")
    assert line.startswith("a.jpg,b.jpg|e.jpg,c.jpg,")


def test_export__texts_are_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = Job(tmp_path, [said("text", key, value) for key, value in TABLES["text"]])
    code, record = run(capsys, job.spec, "--format", "text", "--to", tmp_path / "texts")
    truth = read_truth(tmp_path / "texts/text", "ocr")
    assert (code, record["files"], truth.is_stem) == (0, 2, True)
    assert {f"{key}.jpg": item for key, item in truth.items.items()} == job.truth("text").items


def test_export__coco_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = [{"label": "cat", "box": [1.5, 2, 5, 3.25]}, {"label": "dog", "box": [0, 0, 6, 4]}]
    job = Job(tmp_path, [said("boxes", "a.jpg", {"boxes": boxes}), said("boxes", "b.jpg", {"boxes": []})])
    job.sized("boxes", "a.jpg", 4, 6)
    file = tmp_path / "boxes.json"
    code, record = run(capsys, job.spec, "--format", "coco", "--to", file)
    assert (code, record["files"]) == (0, 1)
    (task,) = record["tasks"]
    assert task["notes"] == ["of 1 images neither rows nor answers say a width and height"]
    truth = read_truth(file, "detect")
    assert truth.items == job.truth("boxes").items
    assert truth.classes == ("cat", "dog")
    read = COCO(str(file))
    first, second = read.loadAnns(read.getAnnIds(imgIds=[1]))
    assert (first["bbox"], first["area"], second["bbox"]) == ([1.5, 2.0, 3.5, 1.25], 4.375, [0.0, 0.0, 6.0, 4.0])
    assert [(one["file_name"], one.get("width")) for one in read.loadImgs([1, 2])] == [("a.jpg", 6), ("b.jpg", None)]


@pytest.mark.parametrize("painted", [True, False])
def test_export__coco_masks_of_objects_where_they_add_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], painted: bool
) -> None:
    one, two = mask("leaf", (0, 0), (0, 1)), mask("leaf", (2, 3))
    whole = [mask("leaf", (0, 0), (0, 1), (2, 3)), mask("coin", (3, 5))]
    instances = [one, two, mask("coin", (3, 5))] if painted else [one]
    job = Job(tmp_path, [said("parts", "a.jpg", {"masks": whole, "instances": instances})])
    file = tmp_path / "parts.json"
    assert run(capsys, job.spec, "--format", "coco", "--to", file, "--task", "parts")[0] == 0
    masks = read_truth(file, "segment").items["a.jpg"].masks
    assert masks == job.truth("parts").items["a.jpg"].masks
    read = COCO(str(file))
    annotations = read.loadAnns(read.getAnnIds())
    assert len(annotations) == (3 if painted else 2)
    for told in annotations:
        decoded, _ = from_coco(read.annToRLE(told))
        assert told["area"] == decoded.sum()
        rows, columns = np.nonzero(decoded)
        left, top, width, height = told["bbox"]
        assert (left, top, left + width, top + height) == (
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        )  # fmt: skip


def test_export__masks_are_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = [mask("leaf", (0, 0), (0, 1), (2, 3)), mask("coin", (3, 5))]
    over = [mask("coin", *((row, column) for row in range(4) for column in range(6))), mask("leaf", (1, 1))]
    job = Job(
        tmp_path,
        [
            said("parts", "x/a.jpg", {"masks": whole, "instances": whole}),
            said("parts", "x/b.jpg", {"masks": [], "instances": []}),
            said("parts", "x/c.jpg", {"masks": [], "instances": []}),
            said("parts", "x/d.jpg", {"masks": over, "instances": over}),
            said("parts", "x/d.png", {"masks": whole, "instances": whole}),
        ],
    )
    job.sized("parts", "x/b.jpg", 3, 5)
    code, record = run(capsys, job.spec, "--format", "masks", "--to", tmp_path / "masks")
    (task,) = record["tasks"]
    assert (code, record["files"], task["empty"]) == (0, 4, 1)
    said_of_it = " ".join(task["notes"])
    renamed = f"x/d.png is x/d.{item_id('c', 'x/d.png')[:12]}.png"
    for words in ("on 1 images labels overlap", "1 images without any mask have no file", renamed):
        assert words in said_of_it
    folder = tmp_path / "masks/parts"
    truth = read_truth(folder, "segment", classes=["coin", "leaf"])
    expected = job.truth("parts").items
    assert truth.items["x/a"].masks == expected["x/a.jpg"].masks
    assert truth.items["x/b"].masks == {}
    assert "x/c" not in truth.items
    assert np.asarray(Image.open(folder / "x/b.png")).shape == (3, 5)
    top = np.asarray(Image.open(folder / "x/d.png"))
    assert (top[1, 1], top[0, 0]) == (2, 1)  # the small one is not hidden
    palette = Image.open(folder / "x/a.png").getpalette()
    rows = (folder / "labels.csv").read_text().splitlines()
    assert rows[0] == "value,label,red,green,blue"
    assert rows[2] == ",".join(map(str, [2, "leaf", *palette[6:9]]))


def test_export__parquet_has_every_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = said("kind", "a", {"label": "tin"}, at=1)
    second = said("kind", "a", {"label": "jar"}, at=2, event="updated", supersedes=first.label_id, config_hash="c2")
    gone = said("kind", "b", {"label": "tin"}, at=1)
    deleted = said("kind", "b", None, at=2, event="deleted", supersedes=gone.label_id)
    other = said("kind", "a", {"label": "jar"}, at=3, who="bob", purpose="review", model="m", shown='{"value": null}')
    skipped = said("defect", "a", None, at=1, was_cancelled=True)
    job = Job(tmp_path, [first, second, gone, deleted, other, skipped])
    code, record = run(capsys, job.spec, "--to", tmp_path / "all")
    rows = {row["label_id"]: row for row in pq.read_table(tmp_path / "all/labels.parquet").to_pylist()}
    assert (code, record["rows"], len(rows)) == (0, 6, 6)
    assert (rows[first.label_id]["superseded_by"], rows[first.label_id]["stands"]) == (second.label_id, False)
    assert (rows[second.label_id]["config_hash"], rows[second.label_id]["stands"]) == ("c2", True)
    assert (rows[gone.label_id]["superseded_by"], rows[deleted.label_id]["stands"]) == (deleted.label_id, False)
    assert (rows[other.label_id]["model"], rows[other.label_id]["shown"]) == ("m", '{"value": null}')
    assert rows[skipped.label_id]["was_cancelled"]
    assert not rows[skipped.label_id]["stands"]
    file = tmp_path / "together.parquet"
    code, record = run(capsys, job.spec, "--to", file, "--only", "consensus")
    (row,) = pq.read_table(file).to_pylist()
    assert (row["key"], json.loads(row["value"]), row["annotators"]) == ("a", {"label": "jar"}, ["ann", "bob"])
    assert set(row["labels"]) == {second.label_id, other.label_id}
    notes = next(one for one in record["tasks"] if one["task"] == "kind")["notes"]
    assert notes[0].startswith("1 answers about kind are of items sent for being unsure")
    code, record = run(capsys, job.spec, "--to", file, "--only", "consensus", "--purpose", "audit")
    (row,) = pq.read_table(file).to_pylist()
    assert (row["labels"], record["tasks"][-1]["notes"]) == ([second.label_id], [])


def test_export__several_people_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [said("kind", "a", {"label": "tin"}, who=who) for who in ("ann", "bob")]
    job = Job(tmp_path, [*labels, said("kind", "a", {"label": "jar"}, who="cid", at=9)])
    code, record = run(capsys, job.spec, "--format", "csv", "--to", tmp_path / "kind.csv")
    assert (code, record["tasks"][0]["answers"]) == (0, 3)
    assert read_truth(tmp_path / "kind.csv", "classify").items["a"].label == "tin"
    assert "ann bob cid" in (tmp_path / "kind.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "coco"), "answers about kind (classify) have no coco"),
        (("--format", "csv", "--only", "rows"), "--only rows: csv holds one answer for each item"),
        (("--format", "csv", "--task", "knid"), "--task 'knid': the spec has no such task"),
        (("--format", "csv", "--purpose", "gold"), "nobody has answered anything for gold yet"),
        (("--format", "csv", "--task", "text"), "nobody has answered anything about text yet"),
    ],
)
def test_export__errors_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    job = Job(tmp_path, [said("kind", "a", {"label": "tin"})])
    code, record = run(capsys, job.spec, "--to", tmp_path / "x", *arguments)
    assert (code, message in record["error"]) == (2, True), record
    assert record["hint"]


def test_export__one_file_for_several_tasks_and_a_place_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(tmp_path, [said("kind", "a", {"label": "tin"}), said("defect", "a", {"is_anomalous": True})])
    code, record = run(capsys, job.spec, "--format", "csv", "--to", tmp_path / "x.csv")
    assert (code, "these are several tasks: defect, kind" in record["error"]) == (2, True)
    (tmp_path / "taken").write_text("")
    code, record = run(capsys, job.spec, "--format", "csv", "--to", tmp_path / "taken/folder")
    assert (code, "cannot be written" in record["error"]) == (2, True)
    bad = Job(tmp_path, [said("tags", "a", {"labels": ["a|b"]})])
    code, record = run(capsys, bad.spec, "--format", "csv", "--task", "tags", "--to", tmp_path / "t.csv")
    assert (code, "the label 'a|b' holds '|'" in record["error"]) == (2, True)
