"""How fast do review tasks get into Label Studio, beside a bare import of the same tasks?

`python -m tests.benchmarks.annotation.push_rate`: a real Label Studio on SQLite, an empty project for each turn, bare
and pushed by turns. Bare: the same tasks, made beforehand, in requests of a thousand and in one; the faster of both.
"""

import argparse
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.annotation.examples import LABELS, item
from tests.benchmarks.engine.line import say
from tests.servers.label_studio import running_label_studio
from winnow_annotation.label_studio import LabelStudioClient
from winnow_annotation.labelling_config import labelling_config
from winnow_annotation.outbox import CHUNK
from winnow_annotation.push import push
from winnow_annotation.tasks import PushItem, review_task
from winnow_storage.blobs import open_store
from winnow_storage.ledger import open_ledger
from winnow_storage.uri import parse


def main() -> None:
    """Print a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-rate-") as scratch:
        folder = Path(scratch)
        (folder / "images").mkdir()
        with running_label_studio(folder) as server:
            client = LabelStudioClient(server.url, server.token, document_root=scratch)
            found = [_turn(client, folder, given.tasks) for _ in range(given.turns)]
    rates = {name: [round(given.tasks / turn[name], 1) for turn in found] for name in ("bare", "pushed")}
    setup = f"Label Studio on SQLite, {given.tasks} tasks with predictions"
    ratios = [turn["bare"] / turn["pushed"] for turn in found]
    say("Label Studio: rate of a push beside a bare import", ratios, at_least=0.8, setup=setup, tasks_per_s=rates)


def _turn(client: LabelStudioClient, folder: Path, count: int) -> dict[str, float]:
    job = f"rate {secrets.token_hex(4)}"
    items = [item("kind", (folder / "images" / f"{place:06}.jpg").as_uri(), job=job) for place in range(count)]
    bare = [_bare(client, items, size) for size in (CHUNK, count)]
    output = open_store(parse(str(folder / job)))
    with open_ledger(f"sqlite:///{folder / f'{job}.sqlite'}") as ledger:
        start = time.monotonic()
        done = push(client, ledger, items, output=output, labels=LABELS, render=_render)
        pushed = time.monotonic() - start
    if done.sent != count:
        raise RuntimeError(f"{done} of {count}")
    return {"bare": min(bare), "pushed": pushed}


def _bare(client: LabelStudioClient, items: Sequence[PushItem], size: int) -> float:
    project = client.ensure_project(f"bare {secrets.token_hex(4)}", labelling_config("classify", LABELS["kind"])).id
    tasks: list[dict[str, Any]] = [review_task(one, image="/data/local-files/?d=images/a.jpg") for one in items]
    start = time.monotonic()
    for first in range(0, len(tasks), size):
        client.import_tasks(project, tasks[first : first + size])
    return time.monotonic() - start


def _render(uri: str, version: str) -> bytes:
    raise AssertionError(f"{uri} in version {version} opens in a browser")


if __name__ == "__main__":
    main()
