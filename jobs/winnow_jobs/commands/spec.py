"""`winnow validate`, `winnow plan` and `winnow doctor`: what a spec says, what it would do, whether it could."""

from typing import Any

import typer

from winnow_jobs.backfill import backfilled
from winnow_jobs.begin import PLAN_ITEM_BYTES, open_run
from winnow_jobs.commands.options import AsJson, SpecPath, now
from winnow_jobs.commands.run import BackfillWhat, Limit, Retry, Sample, Since, Tasks, selection
from winnow_jobs.doctor import examine
from winnow_jobs.draft import draft_run
from winnow_jobs.render import Screen
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.runs import Runs
from winnow_jobs.scratch import scratch
from winnow_jobs.spec_source import load_spec
from winnow_jobs.views import plan_record
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.uri import parse
from winnow_workers.preflight import check_tasks


def validate(spec: SpecPath, *, as_json: AsJson = False) -> None:
    """Check a job spec: its keys, its values and the models that it names."""
    resolved = resolve_spec(load_spec(spec))
    record: dict[str, Any] = {
        "job": resolved.job,
        "valid": True,
        "corpus": resolved.corpus.uri,
        "output": resolved.output,
        "tasks": [
            {"name": task.name, "operator": task.operator, "model": task.model.name, "digest": task.model.digest}
            for task in resolved.tasks
        ],
    }
    screen = Screen(as_json=as_json)
    if not screen.record(record):
        screen.say(f"{spec}: valid")
        for task in record["tasks"]:
            screen.say(f"  {task['name']}: {task['operator']} with {task['model']} ({task['digest'][:20]})")


def plan(
    spec: SpecPath,
    *,
    limit: Limit = None,
    sample: Sample = None,
    tasks: Tasks = None,
    retry: Retry = None,
    since: Since = None,
    backfill: BackfillWhat = None,
    as_json: AsJson = False,
) -> None:
    """Say what would run and why, without running it."""
    resolved = resolve_spec(load_spec(spec))
    chosen = backfilled(selection(tasks, retry, since, limit, sample), resolved, backfill)
    check_tasks((task.config() for task in resolved.tasks), own=resolved.run.device != "cuda")
    runs = Runs(open_store(parse(resolved.output)))
    with scratch("plan", item_bytes=PLAN_ITEM_BYTES) as place:
        folder = place if resolved.corpus.same_content == "once" else None  # copies are found among what is set aside
        record = plan_record(draft_run(runs, resolved, chosen, now=now(), folder=folder), open_run(runs), runs)
    screen = Screen(as_json=as_json)
    if not screen.record(record):
        _show_plan(screen, record)


def _show_plan(screen: Screen, record: dict[str, Any]) -> None:
    if record["open_run"] is not None:
        screen.say(f"run {record['open_run']} is open: winnow run goes on with it first. After that:")
    work = (
        f", {record['bytes'] / 1e6:,.1f} MB, in {counted(record['shards'], 'shard')} of up to {record['shard_items']}"
    )
    due = f"{record['due_items']:,} of {counted(record['corpus_items'], 'item')} due"
    screen.say(f"{record['job']}: {due}{work if record['due_items'] else ''}")
    if record["copies"]:
        screen.say(f"  of the same bytes as another, it seems, and then copied: {counted(record['copies'], 'item')}")
    if record["other_files"]:
        names = ", ".join(record["other_examples"])
        more = ", ..." if record["other_files"] > len(record["other_examples"]) else ""
        screen.say(f"  not items: {counted(record['other_files'], 'other file')} ({names}{more})")
    if record["cold_items"]:
        names = ", ".join(record["cold_examples"])
        more = ", ..." if record["cold_items"] > len(record["cold_examples"]) else ""
        screen.say(f"  in cold storage, not fetched: {counted(record['cold_items'], 'image')} ({names}{more})")
    for task in record["tasks"]:
        model = f"{task['model']} ({task['digest'][:20]})"
        screen.say(f"  {task['name']}: {task['operator']} with {model}, {task['due']} due: {task['why']}")
        if task["from_vectors"]:
            screen.say(f"    {task['from_vectors']:,} from committed vectors of {task['vectors']}, nothing is fetched")
        if task["review"]:
            screen.say(f"    {task['review']}")
    screen.say(f"  for people: {record['review_estimate']}")


def doctor(spec: SpecPath, *, as_json: AsJson = False) -> None:
    """Check a job's store, ledger, Ray, device, models and Label Studio, and say what to do about each failure."""
    findings = examine(load_spec(spec))
    healthy = all(finding.ok for finding in findings)
    screen = Screen(as_json=as_json)
    record = {"healthy": healthy, "checks": [finding.record() for finding in findings]}
    if not screen.record(record):
        for finding in findings:
            screen.say(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}")
            if finding.hint and not finding.ok:
                screen.say(f"        next: {finding.hint}")
    raise typer.Exit(0 if healthy else 4)
