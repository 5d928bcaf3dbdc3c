"""A thousand photographs through all five tasks: is there one row for each, and do the counts agree?

Prints one JSON line: what was checked, whether it holds, and the machine. `make bench-demo` runs it, with the demo's
models.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images

SPEC = """\
name: thousand
corpus: photos
output: out
registry: {registry}
ledger: sqlite:///{folder}/ledger.db
tasks:
  - {{name: kind,   operator: classify, model: models/digits@prod}}
  - {{name: text,   operator: ocr}}
  - {{name: parts,  operator: segment,  model: models/shapes@prod}}
  - {{name: defect, operator: anomaly,  model: models/textures@prod}}
  - {{name: vector, operator: embed,    model: models/photos@prod}}
"""
TASKS = ("kind", "text", "parts", "defect", "vector")


def photographs(folder: Path, count: int) -> None:
    """Crops of the photographs that scikit-image and scikit-learn ship, 200 to 512 px a side, all different."""
    sources = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), *load_sample_images().images]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        source = sources[number % len(sources)]
        height, width = (int(rng.integers(200, min(side, 512) + 1)) for side in source.shape[:2])
        top, left = (
            int(rng.integers(0, side - part + 1)) for side, part in zip(source.shape, (height, width), strict=False)
        )
        crop = Image.fromarray(source[top : top + height, left : left + width])
        crop.save(folder / f"{number:04d}.jpg", quality=90)


def check(folder: Path, record: dict[str, Any], count: int) -> dict[str, bool]:
    """What must be true of the run."""
    results = record["results"]
    counts = dict(duckdb.sql(f"SELECT outcome, count(*) FROM '{results}' GROUP BY outcome").fetchall())
    ((rows, keys),) = duckdb.sql(f"SELECT count(*), count(DISTINCT key) FROM '{results}'").fetchall()
    return {
        "one row per item": rows == keys == count == len(list((folder / "photos").iterdir())),
        "outcomes sum to items": sum(record["outcomes"].values()) == record["items"] == count,
        "the README's query gives the same counts": counts == {k: n for k, n in record["outcomes"].items() if n},
        "every task predicted every item": all(record["predictions"][task] == count for task in TASKS),
    }


def main() -> int:
    """Run it; 0 if everything holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", type=Path, default=Path("demo/models"))
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photographs(folder / "photos", options.count)
        spec = folder / "job.yaml"
        spec.write_text(SPEC.format(registry=options.registry.absolute(), folder=folder))
        command = [Path(sys.executable).parent / "winnow", "run", spec, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        record = json.loads(done.stdout)
        held = check(folder, record, options.count)
    line = {
        "point": "a thousand photographs, five tasks, one row each",
        "holds": all(held.values()),
        "checks": held,
        "items": record["items"],
        "seconds": record["seconds"],
        "items_per_s": record["items_per_s"],
        "stage_seconds": record["stage_seconds"],
        "setup": f"{os.cpu_count()} cores, {platform.machine()}, {datetime.now(UTC):%Y-%m-%d}",
    }
    sys.stdout.write(json.dumps(line) + "\n")
    return 0 if line["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
