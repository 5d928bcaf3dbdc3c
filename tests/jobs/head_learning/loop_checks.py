"""What is wrong of a loop that was killed and started again? Bucket, ledger, registry and Label Studio compared.

And what its tests put in the place of Ray.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.annotation.people import Person
from tests.jobs.whole_nights import work_through
from winnow_jobs.consensus.rows import standing_rows
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.routes import TO_PEOPLE, iter_sent
from winnow_jobs.run import Tally
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.verify.labels import read_labels
from winnow_jobs.verify.run import verify_run
from winnow_storage.blobs import open_store
from winnow_storage.ledger import open_ledger
from winnow_storage.records import PushState
from winnow_storage.registry import Registry
from winnow_storage.uri import parse


def projects_of(person: Person) -> list[int]:
    """Of the job, whose name every test here uses."""
    found = person.ask("GET", "/api/projects/?page_size=1000")["results"]
    return [one["id"] for one in found if one["title"] == "digits / kind"]


def in_this_process(runs: Runs, plan: PlanDocument, *_: object, **__: object) -> tuple[Tally, float]:
    """The work of a run by a pipeline in this process, as `winnow_jobs.run.work_through` has it done by actors."""
    standing = {shard for shard, _ in runs.receipts(plan.run_id)}
    work_through(runs, plan, shards=[shard for shard in range(plan.shards) if shard not in standing])
    tally = Tally()
    for _, receipt in runs.receipts(plan.run_id):
        tally.add(receipt, now=False)
    return tally, 1.0


def harm(path: Path, person: Person) -> dict[str, Any]:
    """What was lost or doubled of the job of a spec whose loop has ended; nothing if all is as it must be."""
    spec = resolve_spec(load_spec(path))
    runs = Runs(open_store(parse(spec.output)))
    with open_ledger(spec.ledger) as ledger:
        projects = [
            project
            for task in spec.tasks
            if (project := ledger.project(spec.review.label_studio.url, spec.job, task.name)) is not None  # type: ignore[union-attr]
        ]
        review = ledger.review_tasks(output=runs.store.root.uri)
        labels = ledger.labels(spec.job)
    there = [task for project in projects for task in person.tasks(project.project_id)]
    keys = Counter(task["data"]["dedupe_key"] for task in there)
    wanted = {
        row["dedupe_key"]
        for run_id in runs.ids()
        for row in iter_sent(runs.store, run_id, ["route", "dedupe_key"])
        if row["route"] in {str(one) for one in TO_PEOPLE}
    }
    answers = {str(answer["id"]) for task in there for answer in task["annotations"]}
    in_bucket, damaged = read_labels(runs.store)
    found = {
        "tasks that are not in the state pushed": [row.dedupe_key for row in review if row.state != PushState.PUSHED],
        "tasks twice": _twice(task["data"]["dedupe_key"] for task in there),
        "tasks lost": sorted(wanted - keys.keys()),
        "tasks nobody chose": sorted(keys.keys() - wanted),
        "answers twice in the ledger": _twice(label.annotation_id for label in labels),
        "answers other than in Label Studio": sorted(answers ^ {label.annotation_id for label in labels}),
        "answers other in the bucket": sorted(
            {label.label_id for label in labels} ^ {label.label_id for label in in_bucket}
        ),
        "labels damaged": [finding.key for finding in damaged],
        "answers without a consensus": sorted(
            {label.item_id for label in labels} ^ {row.item_id for row in standing_rows(runs.store).values()}
        ),
        "runs that are not closed": [run_id for run_id in runs.ids() if runs.summary(run_id) is None],
        "runs that are damaged": [
            (run_id, finding.record()) for run_id in runs.ids() for finding in verify_run(runs, run_id).findings
        ],
        "heads": _of_heads(Registry(open_store(parse(spec.registry)))),
    }
    return {what: some for what, some in found.items() if some}


def _of_heads(registry: Registry) -> list[str]:
    wrong: list[str] = []
    for name in registry.names():
        entries = registry.entries(name)
        wrong += [f"{name}: the same head twice: {sha}" for sha in _twice(entry.sha256 for entry in entries)]
        for event, before in zip(registry.history(name), [None, *registry.history(name)], strict=False):
            if before is not None and event.version == before.version:
                wrong.append(f"{name}: {event.version} was promoted twice, one time after the other")
    return wrong


def _twice(some: Iterable[Any]) -> list[Any]:
    return [one for one, count in Counter(some).items() if count > 1]
