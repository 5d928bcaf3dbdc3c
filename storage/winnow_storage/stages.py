"""Which version does a stage of a model name, and which ones did it name before? A log in the store, only appended to.

`models/NAME/stages/00000001.json` holds {stage, version, at} and, newer ones, {action, by, why}. The past of a stage is
a stack: `promote` puts a version on it, `rollback` takes one off.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from winnow_storage import ids
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import ModelError, StoreError

STAGES = "stages"  # the folder of the log, so no version may be called so

Action = Literal["promote", "rollback"]


@dataclass(frozen=True, slots=True)
class StageEvent:
    """One entry of a log: from `at` (ISO 8601, UTC) on, `stage` names `version`. `by` and `why` as they were given."""

    number: int
    stage: str
    version: str
    at: str
    action: Action
    by: str | None
    why: str | None


class StageLog:
    """The stages of one model."""

    def __init__(self, store: BlobStore, name: str, now: Callable[[], datetime]) -> None:
        self._store = store
        self._name = name
        self._prefix = f"models/{name}/{STAGES}/"
        self._now = now

    def events(self) -> list[StageEvent]:
        """All entries, oldest first.

        Raises:
            StoreError: an entry is not what was written there.
        """
        return [self._event(number) for number in self._numbers()]

    def append(self, event: StageEvent) -> bool:
        """Write an entry at its number; whether nobody else was faster."""
        record = {"stage": event.stage, "version": event.version, "at": event.at, "action": event.action}
        said = {key: value for key, value in (("by", event.by), ("why", event.why)) if value is not None}
        return self._store.put_if_absent(self._key(event.number), ids.canonical_json(record | said).encode())

    def next(
        self,
        events: Sequence[StageEvent],
        action: Action,
        stage: str,
        version: str,
        said: tuple[str | None, str | None],
    ) -> StageEvent:
        """An entry of this moment behind those that were read; `said` is by whom and why."""
        number = 1 + (events[-1].number if events else 0)
        return StageEvent(number, stage, version, self._now().isoformat(), action, *said)

    def _numbers(self) -> list[int]:
        names = (info.key.removeprefix(self._prefix).removesuffix(".json") for info in self._store.walk(self._prefix))
        return sorted(int(each) for each in names if each.isdigit())

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:08d}.json"

    def _event(self, number: int) -> StageEvent:
        key = self._key(number)
        try:
            record = json.loads(self._store.get(key))
            return StageEvent(
                number,
                record["stage"],
                record["version"],
                record["at"],
                record.get("action", "promote"),
                record.get("by"),
                record.get("why"),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{self._store.root}/{key} is not what the registry wrote there", hint="restore or delete it"
            ) from error


def pointed_at(events: Sequence[StageEvent]) -> Mapping[str, str]:
    """Stage -> version, as the last entry of each stage says."""
    return {event.stage: event.version for event in events}


def version_before(events: Sequence[StageEvent], name: str, stage: str) -> str:
    """The version that `stage` named before the one that it names now.

    Raises:
        ModelError: it never named anything, or nothing before.
    """
    stack: list[str] = []
    for event in events:
        if event.stage != stage:
            continue
        if event.action == "rollback" and len(stack) > 1:
            stack.pop()
        else:
            stack.append(event.version)
    if not stack:
        known = sorted({event.stage for event in events})
        raise ModelError(
            f"the model {name!r} has no stage {stage!r}; it has {', '.join(known) or 'none'}",
            hint=f"winnow models promote {name} VERSION {stage}",
        )
    if len(stack) == 1:
        raise ModelError(
            f"{name}@{stage} is version {stack[0]}, and was no other before: there is nothing to go back to",
            hint=f"winnow models promote {name} VERSION {stage}",
        )
    return stack[-2]
