"""What is the demo corpus? About 300 image files in folders by kind, and a Parquet file of what is true of them."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_jobs.demo import bad_images, digits_images, photographs, shapes, text_images, textures
from winnow_jobs.demo.sample import Sample
from winnow_storage.errors import UsageError

# One row per image. An image says something about one operator at most, so its truth fits in one row: join it with the
# results on `key`, and take the rows of an operator by `operator`. The other columns are explained at `sample.Truth`.
TRUTH = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("expected_outcome", pa.string(), nullable=False),
        pa.field("operator", pa.string()),
        pa.field("clean", pa.bool_()),
        pa.field("label", pa.string()),
        pa.field("text", pa.string()),
        pa.field("anomalous", pa.bool_()),
        pa.field("masks", pa.string()),  # JSON: class -> COCO RLE {size, counts}
    ]
)

# Files that are no images: a listing must count and name them, not run them.
OTHERS: Mapping[str, bytes] = {
    "README.txt": b"The demo corpus: made by `winnow demo`, safe to delete.\n",
    ".DS_Store": b"\0\0\0\1Bud1",
    "text/transcripts.csv": b"file,read_by\n",
}


@dataclass(frozen=True, slots=True)
class CorpusSummary:
    """A corpus on disk. `images` counts the files of each folder below `corpus`, bad ones included."""

    corpus: Path
    truth: Path
    images: Mapping[str, int]
    others: int
    bytes: int

    def __str__(self) -> str:
        folders = ", ".join(f"{count} {name}" for name, count in self.images.items())
        return f"{sum(self.images.values())} images ({folders}), {self.bytes / 2**20:.0f} MiB in {self.corpus}"


def make_corpus(folder: Path, *, seed: int = 0) -> CorpusSummary:
    """Write the corpus to `folder` and its truth to `truth.parquet` beside it; equal seeds give equal bytes.

    All of it is evaluation data: what the trainers see is another part of the same sources (`sources`). The folder
    appears whole or not at all.

    Raises:
        UsageError: the folder is there already.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already", hint=f"choose another folder, or delete it: rm -r {folder}")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    rows: list[dict[str, object]] = []
    images: Counter[str] = Counter()
    size_bytes = 0
    for sample in samples(seed):
        _write(unfinished / sample.key, sample.data)
        rows.append(_truth_row(sample))
        images[sample.key.partition("/")[0]] += 1
        size_bytes += len(sample.data)
    for key, data in OTHERS.items():
        _write(unfinished / key, data)
    rows.sort(key=lambda row: str(row["key"]).encode())
    truth = folder.with_name("truth.parquet")
    unfinished_truth = folder.with_name(".truth.unfinished")
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH), unfinished_truth)
    unfinished.rename(folder)
    unfinished_truth.rename(truth)
    return CorpusSummary(corpus=folder, truth=truth, images=dict(images), others=len(OTHERS), bytes=size_bytes)


def samples(seed: int) -> Iterator[Sample]:
    """Every image of the corpus, one at a time."""
    for group in (digits_images, text_images, shapes, textures, photographs, bad_images):
        yield from group.samples(seed)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _truth_row(sample: Sample) -> dict[str, object]:
    truth = sample.truth
    return {
        "key": sample.key,
        "expected_outcome": truth.expected_outcome.value,
        "operator": truth.operator,
        "clean": truth.clean,
        "label": truth.label,
        "text": truth.text,
        "anomalous": truth.anomalous,
        "masks": None if truth.masks is None else json.dumps(truth.masks, sort_keys=True),
    }
