"""What does the report show of heads? Each version: how many labels taught it, what the gate said, which is used."""

from typing import Any

from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument
from winnow_storage.blobs import open_store
from winnow_storage.registry import ModelEntry, Registry
from winnow_storage.uri import parse

VERSIONS = 20  # the newest ones, of each head


def head_views(plan: PlanDocument) -> list[dict[str, Any]]:
    """A record for each task of a run whose model is a head in the registry, with the newest versions of that model.

    Raises:
        StoreError: the registry cannot be read.
    """
    heads = [task for task in plan.tasks() if task.vectors is not None and task.model.name.startswith("models/")]
    if not heads:
        return []
    registry = Registry(open_store(parse(plan.spec.registry)))
    return [_view(registry, task) for task in heads]


def _view(registry: Registry, task: ResolvedTask) -> dict[str, Any]:
    name = task.model.name.removeprefix("models/").partition("@")[0]
    entries = registry.entries(name)[-VERSIONS:]
    return {"task": task.name, "model": name, "versions": [_version(registry, one, task) for one in entries]}


def _version(registry: Registry, entry: ModelEntry, task: ResolvedTask) -> dict[str, Any]:
    """`gate`: its newest verdict; null of a version that no gate looked at."""
    told = registry.verdicts(entry)
    verdict = told[-1]["verdict"] if told else None
    return {
        "version": entry.version,
        "labels": (entry.card.get("metrics") or {}).get("labels"),
        "stages": list(entry.stages),
        "predicted_this_run": entry.sha256 == task.model.digest,
        "gate": None
        if verdict is None
        else {
            "passed": verdict["promote"],
            "against": verdict.get("against"),
            "gold": verdict["gold"],
            "accuracy": verdict["accuracy"],
            "current_accuracy": verdict["current_accuracy"],
            "why": "; ".join(one["text"] for one in verdict["why"]),
        },
    }
