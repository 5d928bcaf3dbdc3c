"""Where does everything that is known of an item come from? One record: object, decoding, models, routes, people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from winnow_jobs.explain.decision import Known, decide
from winnow_jobs.explain.finding import Found, find_item
from winnow_jobs.explain.made_by import calibrator_record, learnt_records, model_record, promise_record
from winnow_jobs.explain.people import (
    OpenLedger,
    Said,
    asked_records,
    consensus_record,
    label_records,
    said_of,
    shortened,
)
from winnow_jobs.explain.ran import Ran, routes_by_run, runs_with
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.errors import LedgerError, UsageError
from winnow_storage.schemas import RESULT_COMMON

_ROUTE = ("run_id", "route", "reason", "score", "p_ok", "calibrator", "chosen", "inclusion", "dedupe_key")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be explained: an item by key, id or URI; of all its tasks and runs, unless one is named."""

    item: str
    task: str | None = None
    run_id: str | None = None


def explain(runs: Runs, asked: Asked, *, ledger: OpenLedger | None, server: str | None) -> dict[str, Any]:
    """The record; `ledger` knows how far review tasks got, `server` is the Label Studio that they went to.

    Raises:
        UsageError: there is no such item, run or task. StoreError: as the store says, or labels are damaged.
    """
    plans = runs.plans()
    if not plans:
        raise UsageError(f"{runs.store.root} has no runs yet, so nothing is known of any item", hint="winnow run SPEC")
    found = find_item(runs.store, plans, asked.item)
    every = runs_with(runs.store, plans, found.key)
    ran = _chosen(every, found, asked)
    routes, damaged = routes_by_run(runs.store, plans, every, found.key)
    shown = [row for row in routes if asked.run_id in (None, row["run_id"])]
    version = _version(found, ran)
    of_version = [one for one in ran if one.row and one.row["version"] == version]
    notes: list[str] = []
    job = plans[-1].spec.job
    said = _said(runs, found, job, routes, ledger, server, notes)
    names = _tasks(plans, ran, asked)
    return {
        "job": job,
        "output": str(runs.store.root),
        "item": _item(found, plans[-1], every, version),
        "row": _row(of_version),
        "runs": [_run(one) for one in ran],
        "tasks": [_Task(runs, plans, every, of_version, shown, said, name).record(job, version) for name in names],
        "damaged": [*(text for one in ran for text in one.damaged), *damaged],
        "notes": notes,
    }


def _chosen(every: Sequence[Ran], found: Found, asked: Asked) -> Sequence[Ran]:
    if asked.run_id is None:
        return every
    chosen = [one for one in every if one.run_id == asked.run_id]
    if not chosen:
        took = ", ".join(one.run_id for one in every) or "none yet"
        raise UsageError(f"run {asked.run_id} did not take {found.key}", hint=f"runs that did: {took}")
    return chosen


def _version(found: Found, ran: Sequence[Ran]) -> str | None:
    """The one that is listed now if any run has a row of it, else that of the newest row."""
    versions = [one.row["version"] for one in ran if one.row]
    if found.listed is not None and (not versions or found.listed["version"] in versions):
        return str(found.listed["version"])
    return versions[-1] if versions else None


def _item(found: Found, newest: PlanDocument, ran: Sequence[Ran], version: str | None) -> dict[str, Any]:
    listed = found.listed
    rows = [one.row for one in ran if one.row]
    uri = listed["uri"] if listed is not None else rows[-1]["uri"] if rows else None
    return {
        "key": found.key,
        "item_id": found.item_id,
        "uri": uri,
        "corpus": newest.spec.corpus.uri,
        "corpus_id": newest.spec.corpus.id,
        "state": "damaged" if not rows and any(one.damaged for one in ran) else _state(found, rows, version),
        "listed_by": newest.run_id,
        "listed_version": None if listed is None else listed["version"],
        "listed_bytes": None if listed is None else listed["bytes"],
        "version": version,
    }


def _state(found: Found, rows: Sequence[Mapping[str, Any]], version: str | None) -> str:
    if found.listed is None:
        return "gone"
    if not rows:
        return "pending"
    return "current" if found.listed["version"] == version else "changed"


def _row(ran: Sequence[Ran]) -> dict[str, Any] | None:
    """The newest row of the version."""
    if not ran:
        return None
    last = ran[-1]
    row = {name: last.row.get(name) for name in RESULT_COMMON.names}  # older ones know no copies
    return row | {"object": last.object, "code_version": last.code_version, "attempt": last.attempt}


def _run(one: Ran) -> dict[str, Any]:
    return {
        "run_id": one.run_id,
        "created_at": one.plan.created_at.isoformat(),
        "shard": one.shard,
        "object": one.object,
        "committed": bool(one.row),
        "damaged": bool(one.damaged),
        "due": list(one.tasks),
        "version": one.row.get("version"),
        "outcome": one.row.get("outcome"),
        "reason": one.row.get("reason"),
        "predicted": [task.name for task in one.plan.tasks() if one.has_prediction(task.name)],
        "routes": {task: f"{row['route']} ({row['reason']})" for task, row in one.routes.items()},
    }


def _said(
    runs: Runs,
    found: Found,
    job: str,
    routes: Sequence[dict[str, Any]],
    ledger: OpenLedger | None,
    server: str | None,
    notes: list[str],
) -> Said:
    try:
        return said_of(runs.store, found.item_id, job, routes, ledger, server)
    except LedgerError as error:
        notes.append(f"how far review tasks got is not known: {error.message}; next: {error.hint}")
        return said_of(runs.store, found.item_id, job, routes, None, server)


def _tasks(plans: Sequence[PlanDocument], ran: Sequence[Ran], asked: Asked) -> list[str]:
    names = [task.name for one in reversed(ran) for task in one.plan.tasks()] if ran else []
    names += [] if ran else [task.name for task in plans[-1].spec.tasks]
    known = list(dict.fromkeys(names))
    if asked.task is None:
        return known
    if asked.task not in known:
        raise UsageError(f"no run took the item for a task {asked.task!r}", hint=f"tasks: {', '.join(known)}")
    return [asked.task]


def _vector(ran: Ran, task: str) -> dict[str, str]:
    """Of which task, and in the row of which run."""
    return {"task": task, "run_id": ran.vectors.get(task, ran.run_id)}


@dataclass(frozen=True, slots=True)
class _Task:
    """One task of the item: `ran` are the runs with it, `of_version` those with a row of the version looked at.

    `routes` are those of the item, oldest run first.
    """

    runs: Runs
    plans: Sequence[PlanDocument]
    ran: Sequence[Ran]
    of_version: Sequence[Ran]
    routes: Sequence[Mapping[str, Any]]
    said: Said
    name: str

    def record(self, job: str, version: str | None) -> dict[str, Any]:
        """What is said of it."""
        own = [one for one in self.of_version if any(task.name == self.name for task in one.plan.tasks())]
        best = next((one for one in reversed(own) if one.has_prediction(self.name)), None)
        last = best or (own[-1] if own else None)
        struct = None if last is None else last.row.get(self.name)
        found: dict[str, Any] = {"task": self.name, "operator": None, "run_id": None, "prediction": None}
        found |= dict.fromkeys(("error", "model", "vector", "route", "calibrator", "promise"))
        if last is not None:
            found |= self._predicted(last, struct, is_usable=best is not None)
        live = self.said.live(job, self.name)
        live = live if live is not None and live.version == version else None
        decision = decide(
            Known(
                outcome=None if last is None else str(last.row["outcome"]),
                why=self._why(last, struct),
                prediction=found["prediction"],
                route=found["route"],
                live=live,
                consensus=None if live is None else self.said.agreed(live, self.name),
            )
        )
        return found | {
            "asked": asked_records(self.said, self.name),
            "labels": label_records(self.said, job, self.name),
            "consensus": consensus_record(self.said, job, self.name),
            "decision": {"word": str(decision.word), "answer": shortened(decision.answer), "why": decision.why},
            "learnt_by": learnt_records(self.runs.store, self.plans, self.ran, self.said, self.name),
        }

    def _why(self, last: Ran | None, struct: Mapping[str, Any] | None) -> str | None:
        if last is None:
            return "its row cannot be read" if any(one.damaged for one in self.ran) else None
        error: str | None = (struct or {}).get("error")
        return error or last.row["reason"]

    def _predicted(self, last: Ran, struct: Mapping[str, Any] | None, *, is_usable: bool) -> dict[str, Any]:
        task = last.task(self.name)
        route = self._route(last)
        store = self.runs.store
        routed = last.plan if route is None else next(one for one in self.plans if one.run_id == route["run_id"])
        return {
            "operator": task.kind,
            "run_id": last.run_id,
            "task_digest": task.digest,
            "prediction": shortened(dict(struct)) if is_usable and struct is not None else None,
            "error": None if struct is None else struct.get("error"),
            "model": model_record(last.plan, task),
            "vector": None if task.vectors is None else _vector(last, task.vectors),
            "route": None if route is None else {name: route.get(name) for name in _ROUTE},
            "calibrator": calibrator_record(store, routed.run_id, self.name),
            "promise": promise_record(store, last, routed, task) if is_usable else None,
        }

    def _route(self, last: Ran) -> Mapping[str, Any] | None:
        """The newest one of a run's prediction: it may have been held, and have competed again."""
        own = [
            row
            for row in self.routes
            if row["task"] == self.name and (row.get("predicted_run") or row["run_id"]) == last.run_id
        ]
        return own[-1] if own else None
