"""How does a review task get into Label Studio once, whatever dies on the way? Claimed, fenced, sent, looked up.

A review task is `pending` in the ledger. Whoever sends it claims it first (`sending`), together with the fence that
its import rests on; when the answer has come it is `pushed`. An answer that says too little, or that nobody was left to
hear, is settled before anything is sent again: the fence is closed, and then what the server has is all that it ever
will have of that import. No request is repeated without that. So no copy can come about, however late a request
commits, and whichever of two pushes at once is faster.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from winnow_annotation.fences import close_fences, open_fence, open_fences
from winnow_annotation.label_studio import LabelStudioClient
from winnow_annotation.label_studio_records import FoundTask
from winnow_annotation.tasks import Picture, PushItem, review_task
from winnow_storage.errors import LabelStudioError, LabelStudioRefused
from winnow_storage.ledger import Ledger
from winnow_storage.records import PushState

CHUNK = 1000  # tasks of one import, which is one transaction
_CHUNK_CHARS = 20_000_000  # masks and heat maps may be large; Label Studio takes 250 MiB
_TRIES = 3
_PAUSE_S = 1.0

Sendable = tuple[str, dict[str, Any]]  # dedupe_key, task


class Outbox:
    """The way of one output's review tasks into one project. Its methods raise LabelStudioError and LedgerError."""

    def __init__(self, client: LabelStudioClient, ledger: Ledger, output: str, project_id: int) -> None:
        self._client, self._ledger, self._output, self._project_id = client, ledger, output, project_id
        self._fence: int | None = None

    def settle(self) -> None:
        """Find out what became of every import that was begun and whose end nobody saw, here or on another ledger."""
        rows = self._ledger.review_tasks(output=self._output, states=[PushState.SENDING])
        begun: dict[int | None, list[str]] = {}
        for row in rows:
            if row.project_id == self._project_id:
                begun.setdefault(row.fence, []).append(row.dedupe_key)
        # after the ledger was read: what was claimed until then rests on fences that are there
        left = open_fences(self._client, self._project_id)
        close_fences(self._client, self._project_id, {*left, *(fence for fence in begun if fence is not None)})
        for fence, keys in begun.items():
            self._look_up(keys, fence)

    def adopt(self, items: Sequence[PushItem]) -> set[str]:
        """Note which of the items the server has although the ledger does not know it; their dedupe_keys."""
        known = self._ledger.pushed_ids(self._output, self._project_id)
        standing = self._client.standing(self._project_id)
        if (standing.tasks, standing.newest_id) == (len(known), max(known.values(), default=None)):
            return set()  # it has exactly what the ledger knows
        keys = [item.dedupe_key for item in items if item.dedupe_key not in known]
        return self._note(self._client.find_tasks(self._project_id, keys))

    def send(self, items: Sequence[PushItem], images: Mapping[Picture, str]) -> int:
        """How many of the items this call brought to the server; `images` has the reference of every picture, without
        those of neighbours that are gone.

        Raises:
            LabelStudioError: some are not there; the next push finds out which, and goes on.
        """
        tasks = ((item.dedupe_key, _task(item, images)) for item in items)
        sent = sum(self._send(chunk) for chunk in _chunks(tasks))
        if self._fence is not None:
            with suppress(LabelStudioError):  # nothing rests on it any more; the next push clears it away
                close_fences(self._client, self._project_id, [self._fence])
        return sent

    def sweep(self) -> int:
        """Remove copies that others made, such as a push with another ledger: those that nobody answered or began.

        The oldest stays where none has an answer. How many were removed.
        """
        known = self._ledger.pushed_ids(self._output, self._project_id)
        if self._client.standing(self._project_id).tasks <= len(known):
            return 0
        kept: dict[str, int] = {}
        surplus: list[int] = []
        for key, copies in self._client.all_tasks(self._project_id).items():
            if len(copies) > 1:
                stay = [task for task in copies if task.annotations or task.skips] or copies[:1]
                surplus += [task.id for task in copies if task not in stay]
                kept[key] = stay[0].id
        swept = self._client.delete_unanswered(self._project_id, surplus)
        self._ledger.mark_pushed(kept, self._project_id)
        return swept

    def _send(self, chunk: Sequence[Sendable]) -> int:
        sent = 0
        for turn in range(_TRIES):
            fence = self._open()
            mine = self._ledger.claim([key for key, _ in chunk], self._project_id, fence)
            if not mine:
                return sent
            part = [(key, task | {"file_upload_id": fence}) for key, task in chunk if key in mine]
            try:
                made = self._client.import_tasks(self._project_id, [task for _, task in part])
            except LabelStudioError as error:
                there = self._end(fence, [key for key, _ in part])
                sent += len(there)
                if len(there) == len(part):
                    return sent
                if isinstance(error, LabelStudioRefused) or turn == _TRIES - 1:
                    raise
                time.sleep(_PAUSE_S * 2**turn)
            else:
                keys = [key for key, _ in part]
                self._ledger.mark_pushed(dict(zip(keys, made, strict=True)), self._project_id)
                return sent + len(part)
        return sent

    def _open(self) -> int:
        if self._fence is None:
            self._fence = open_fence(self._client, self._project_id)
        return self._fence

    def _end(self, fence: int, keys: Sequence[str]) -> set[str]:
        """Those that an import brought whose answer said too little."""
        self._fence = None
        close_fences(self._client, self._project_id, [fence])
        return self._look_up(keys, fence)

    def _look_up(self, keys: Sequence[str], fence: int | None) -> set[str]:
        """Of an import that is over: note what the server has, and free the rest."""
        there = self._note(self._client.find_tasks(self._project_id, keys))
        self._ledger.release([key for key in keys if key not in there], fence)
        return there

    def _note(self, found: Mapping[str, Sequence[FoundTask]]) -> set[str]:
        self._ledger.mark_pushed({key: tasks[0].id for key, tasks in found.items()}, self._project_id)
        return set(found)


def _task(item: PushItem, images: Mapping[Picture, str]) -> dict[str, Any]:
    neighbours = [images.get(picture) for picture in item.neighbour_pictures]
    return review_task(item, image=images[item.picture], neighbours=neighbours)


def _chunks(tasks: Iterator[Sendable]) -> Iterator[list[Sendable]]:
    chunk: list[Sendable] = []
    chars = 0
    for key, task in tasks:
        size = len(json.dumps(task))
        if chunk and (len(chunk) == CHUNK or chars + size > _CHUNK_CHARS):
            yield chunk
            chunk, chars = [], 0
        chunk.append((key, task))
        chars += size
    if chunk:
        yield chunk
