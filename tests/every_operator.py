"""One job with every operator: its spec, further photographs for it, and what must be true of what it leaves."""

import base64
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image
from skimage import data

from tests.rows_hold import wrong_in
from winnow_annotation.kinds.catalogue import KINDS
from winnow_annotation.kinds.geometry import Frame
from winnow_annotation.labelling_config import labelling_config
from winnow_annotation.tasks import value_of
from winnow_jobs.demo.sources import PHOTOGRAPHS, photograph
from winnow_jobs.runs import Runs
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_results
from winnow_storage.schemas import IMAGE_SUFFIXES, result_schema
from winnow_storage.uri import parse
from winnow_workers.catalogue import OPERATORS
from winnow_workers.models.labels import labels_of

TASKS = {
    "kind": "classify",
    "things": "detect",
    "parts": "segment",
    "text": "ocr",
    "defect": "anomaly",
    "vector": "embed",
}
SPEC = """\
name: everything
corpus: corpus
output: out
registry: {registry}
ledger: sqlite:///{folder}/ledger.db
tasks:
  - {{name: kind,   operator: classify, model: models/digits@prod}}
  - name: things
    operator: detect
    model: torchvision/ssdlite320_mobilenet_v3_large
    weights: {{random: 1}}
    labels: [one, two, three]
    max_boxes: 50
  - {{name: parts,  operator: segment,  model: models/shapes@prod}}
  - {{name: text,   operator: ocr}}
  - {{name: defect, operator: anomaly,  model: models/textures@prod}}
  - {{name: vector, operator: embed,    model: models/photos@prod}}
review:
  policies:
    kind: {{uncalibrated: review}}
    things: {{uncalibrated: review}}
    parts: {{uncalibrated: review}}
    text: {{uncalibrated: review}}
    defect: {{uncalibrated: review}}
    vector: {{uncalibrated: review}}
  budget: 60
"""
# as files that people have: how it is saved, and with which ending
ENCODINGS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("JPEG", "jpg", {"quality": 90}),
    ("JPEG", "jpg", {"quality": 60, "progressive": True}),
    ("PNG", "png", {}),
    ("WEBP", "webp", {"quality": 80}),
    ("TIFF", "tif", {"compression": "tiff_lzw"}),
    ("BMP", "bmp", {}),
)


def write_job(folder: Path, registry: Path) -> Path:
    """Its spec; the corpus is `corpus` beside it."""
    spec = folder / "everything.yaml"
    spec.write_text(SPEC.format(folder=folder, registry=registry.absolute()), encoding="utf-8")
    return spec


def further_photographs(folder: Path, count: int, *, seed: int = 0) -> None:
    """Real photographs cropped, resized and saved anew, 120 to 640 px a side, no two of the same bytes."""
    sources = [*(photograph(name) for part in PHOTOGRAPHS.values() for name in part), data.coins(), data.page()]
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    seen: set[bytes] = set()
    number = 0
    while number < count:
        source = sources[number % len(sources)]
        content, suffix = _saved(_part(source, rng), number)
        if content in seen:
            continue
        seen.add(content)
        (folder / f"{number:04d}.{suffix}").write_bytes(content)
        number += 1


def image_files(folder: Path) -> list[Path]:
    """The files below a folder that are items, by their names alone."""
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower().lstrip(".") in IMAGE_SUFFIXES]


def _part(source: np.ndarray, rng: np.random.Generator) -> Image.Image:
    height, width = (int(rng.integers(min(side, 120), min(side, 640) + 1)) for side in source.shape[:2])
    top, left = (
        int(rng.integers(0, side - part + 1)) for side, part in zip(source.shape, (height, width), strict=False)
    )
    image = Image.fromarray(source[top : top + height, left : left + width])
    ratio = float(rng.uniform(0.6, 1.4))
    return image.resize((max(32, round(width * ratio)), max(32, round(height * ratio))), Image.Resampling.BICUBIC)


def _saved(image: Image.Image, number: int) -> tuple[bytes, str]:
    form, suffix, options = ENCODINGS[number % len(ENCODINGS)]
    sink = io.BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue(), suffix


def checks(folder: Path, record: Mapping[str, Any], files: int) -> dict[str, Any]:
    """What must be true of the run whose `record` it is, each with what is wrong; nothing where it holds."""
    store = open_store(parse(str(folder / "out")))
    plan = Runs(store).plan(record["run_id"])
    rows = read_results(store, record["run_id"])
    keys = Counter(rows["key"].to_pylist())
    done = [row for row in rows.to_pylist() if row["outcome"] == "done"]
    fields = {name: _fields(rows.schema.field(name).type) for name in TASKS}
    return {
        "one row per image": [] if len(keys) == files == rows.num_rows else [f"{rows.num_rows} rows of {files} images"],
        "the rows have the schema of the operators": _schema(rows.schema, fields),
        "values": [what for row in done for what in wrong_in(row, TASKS)],
        "every task predicted every image that is done": [
            name for name in TASKS if record["predictions"][name] < len(done)
        ],
        "every operator is in the job": sorted({*OPERATORS} ^ {task.operator for task in plan.tasks()}),
        "Label Studio": list(_interfaces(plan, done)),
    }


def _fields(struct: pa.StructType) -> list[pa.Field]:
    common = len(result_schema({"one": []}).field("one").type)
    return list(struct)[common:]


def _schema(found: pa.Schema, fields: Mapping[str, list[pa.Field]]) -> list[str]:
    wrong = [] if found.remove_metadata().equals(result_schema(fields)) else ["another schema"]
    return wrong + [f"{name} has no field of its own" for name, own in fields.items() if not own]


def _interfaces(plan: Any, done: list[dict[str, Any]]) -> Iterator[str]:
    """Every reviewable operator's interface is valid by the SDK's own check, and so is every prediction in it."""
    for task in plan.tasks():
        if task.operator not in KINDS:
            yield f"{task.operator} has no interface"
            continue
        interface = LabelInterface(labelling_config(task.operator, labels_of(task.config())))
        interface.validate()
        for row in done:
            shown = json.loads(json.dumps(row[task.name], default=_text))
            results = KINDS[task.operator].results(shown, Frame(row["width"], row["height"]))
            said = interface.validate_prediction({"result": json.loads(json.dumps(results))}, return_errors=True)
            yield from (f"{row['key']}: {task.name}: {what}" for what in said)
            value_of(task.operator, results)


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    return base64.b64encode(value).decode()
