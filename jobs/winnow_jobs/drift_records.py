"""What was tested of a run, and what does its alarm say? `runs/RUN/drift.json`, and sentences from it."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing, StoreError

Kind = Literal["inputs", "scores", "labels"]
LEAST_P = 1e-6  # that is told


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DriftTest(_Record):
    """Whether one thing of a run has moved. `since` says what it is compared with: of which runs, or a calibrator's.

    `distance` is the maximum mean discrepancy of inputs, that of Kolmogorov and Smirnov of scores, Cramér's V of
    classes; p below `limit` is drift. `such_as`: keys of the images that part the most, or the classes that moved.
    """

    kind: Kind
    task: str
    of: str
    items: int
    before: int
    since: str
    calibrator: str | None = None
    distance: float
    threshold: float
    p_value: float
    limit: float
    drifted: bool
    such_as: tuple[str, ...] = ()


class Reference(_Record):
    """What later runs are compared with: a sample of these runs by its digest; of labels only which runs they are."""

    task_digest: str
    runs: tuple[str, ...]
    digest: str | None = None


class DriftRecord(_Record):
    """`references` and `moved` are by KIND/TASK: what the next run is compared with, and the run with which it moved
    last (of labels, the first run of whose draws that was seen).
    """

    format: Literal[1] = 1
    run_id: str
    tests: tuple[DriftTest, ...]
    references: Mapping[str, Reference]
    moved: Mapping[str, str]


def drift_alarm(record: DriftRecord) -> dict[str, Any] | None:
    """The one alarm of a run: what moved, how far, since when, and what to do; None if nothing did."""
    moved = [one for one in record.tests if one.drifted]
    if not moved:
        return None
    text = (
        f"drift in run {record.run_id}: " + "; ".join(map(_sentence, moved)) + ". Look at the images; label a random "
        "draw of this run (review.calibrate) before p_ok and promises are relied on, then learn again with "
        "winnow learn SPEC --calibrate. Later runs are compared with this one"
    )
    return {
        "run_id": record.run_id,
        "moved": list(dict.fromkeys(one.kind for one in moved)),
        "tests": [one.model_dump(mode="json") for one in moved],
        "text": text,
    }


def drift_warnings(said: Mapping[str, Any] | None) -> list[str]:
    """What people are told, from the `review` part of a run's summary, or from `drift_view`."""
    alarm = None if said is None else said.get("drift_alarm")
    return [] if alarm is None else [alarm["text"]]


def drift_view(store: BlobStore, run_id: str | None = None) -> dict[str, Any] | None:
    """What people see of a run's tests, of the newest run that has any by default; None where nothing was tested.

    `last_moved`: the newest run up to it with which something moved.

    Raises:
        StoreError: as `read_drift`.
    """
    record = newest_drift(store) if run_id is None else read_drift(store, run_id)
    if record is None:
        return None
    return {
        "run_id": record.run_id,
        "drift_alarm": drift_alarm(record),
        "last_moved": max(record.moved.values(), key=int, default=None),
        "tests": [one.model_dump(mode="json") for one in record.tests],
    }


def drift_line(view: Mapping[str, Any]) -> str:
    """The tests of a run, in a sentence."""
    said = ", ".join(f"{one['kind']} of {one['task']} p {one['p_value']:.2g}" for one in view["tests"])
    verdict = "none" if view["drift_alarm"] is None else "ALARM"
    before = f"; something last moved with run {view['last_moved']}" if view["last_moved"] else ""
    return f"drift: run {view['run_id']}: {verdict} ({said or 'nothing to compare with yet'}){before}"


def read_drift(store: BlobStore, run_id: str) -> DriftRecord | None:
    """What was tested of a run; None if nothing.

    Raises:
        StoreError: what stands there is something else.
    """
    key = drift_key(run_id)
    try:
        return DriftRecord.model_validate_json(store.get(key))
    except BlobMissing:
        return None
    except ValidationError as error:
        raise StoreError(
            f"{store.root}/{key} is not what was written when the run was routed",
            hint="restore it from a backup; or remove it: the next run is compared with older ones",
        ) from error


def newest_drift(store: BlobStore, *, before: str | None = None) -> DriftRecord | None:
    """The record of the newest run (of those before one) that has any."""
    numbers = (int(name) for name in store.folders("runs/") if name.isdecimal())
    for number in sorted(numbers, reverse=True):
        if before is None or number < int(before):
            found = read_drift(store, f"{number:04d}")
            if found is not None:
                return found
    return None


def moved_with(record: DriftRecord | None, task: str) -> str | None:
    """The newest run with which something moved that a promise about a task must heed."""
    heeded = (f"scores/{task}", f"labels/{task}")
    moved = record.moved.items() if record is not None else ()
    return max((run for what, run in moved if what.startswith("inputs/") or what in heeded), key=int, default=None)


def drift_key(run_id: str) -> str:
    """Where it stands what was tested of a run."""
    return f"runs/{run_id}/drift.json"


_SCORES = {"score": "scores", "p_ok": "p_ok values", "label": "classes"}
_MEASURED = {
    "vector": "maximum mean discrepancy",
    "score": "Kolmogorov-Smirnov distance",
    "p_ok": "Kolmogorov-Smirnov distance",
    "label": "Cramér's V",
    "class": "Cramér's V",
}


def _sentence(one: DriftTest) -> str:
    what = {
        "inputs": f"{one.task}: the vectors of {one.items} images",
        "scores": f"{one.task}: the {_SCORES.get(one.of, one.of)} of {one.items} predictions",
        "labels": f"{one.task}: the classes that people saw in {one.items} random draws",
    }[one.kind]
    seldom = f"p {one.p_value:.2g}" if one.p_value >= LEAST_P else f"p below {LEAST_P:g}"
    such = f", such as {', '.join(one.such_as)}" if one.such_as else ""
    return (
        f"{what} part from those {one.since} ({_MEASURED[one.of]} {one.distance:.3f}, threshold "
        f"{one.threshold:.3f}, {seldom}{such})"
    )
