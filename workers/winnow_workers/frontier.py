"""Where does a foreign exception become an item's error? Here only: a failing batch is bisected to the item.

An operator runs code that we did not write on bytes that nobody checked, so anything may be raised. What is isolated
to one view is that view's error; running out of memory halves the batch, and the smaller size is remembered. A fault
of the device leaves nothing in its process usable, so that process ends itself; then it is found whose fault it was.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from winnow_storage.errors import RunFailed, WinnowError
from winnow_workers.operator import Operator, OperatorParams, Pending, Prediction, View
from winnow_workers.signals import NeedsCare

_CUDA_MEMORY = "CUDA error: out of memory"  # of a call beside torch's own allocator


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """Why a task could not process one view."""

    error: str


T = TypeVar("T")


def attempt(call: Callable[[], T]) -> T | TaskFailure:
    """What a call of foreign code gives, or what it raised and where: for its author, who has it checked."""
    try:
        return call()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames[1:] if "site-packages" not in frame.filename]
        last = (own or frames)[-1]
        return TaskFailure(f"{_say(error)} ({Path(last.filename).name}:{last.lineno})")


@dataclass(slots=True)
class Begun:
    """Views in batches, those begun with and those whose turn is still to come, and the memory that they hold."""

    batches: list[tuple[Sequence[View], Pending | None]] = field(default_factory=list)
    held_bytes: int = 0


class IsolatingRunner:
    """Runs one opened operator over any number of views; exactly one answer per view, in order.

    `alone` says that nothing else stands in this process's memory: then running out of it is the view's own error,
    otherwise that cannot be known here. `entering` is told the task's name before every call of the operator.
    """

    def __init__(
        self,
        task: str,
        operator: Operator[OperatorParams],
        *,
        alone: bool = False,
        entering: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.task = task
        self.operator = operator
        self._alone = alone
        self._entering = entering
        self._batch_size = max(1, operator.batch_size)

    def run(self, views: Sequence[View]) -> list[Prediction | TaskFailure]:
        """A prediction or a failure per view.

        Raises:
            NeedsCare: one view was more than the memory that is left in company.
            RunFailed: the operator breaks its contract (not one prediction per view).
            WinnowError: whatever of ours the operator raises: it is about the environment, not about a view.
        """
        answers: list[Prediction | TaskFailure] = []
        start = 0
        while start < len(views):
            batch = views[start : start + self._batch_size]
            answers.extend(self._attempt(batch))
            start += len(batch)
        return answers

    def begin(self, views: Sequence[View], *, most_bytes: int) -> Begun:
        """Have the operator begin with batch after batch, as long as what it will say takes less than `most_bytes`.

        Raises:
            WinnowError: as `run`.
        """
        begun = Begun()
        for start in range(0, len(views), self._batch_size):
            batch = views[start : start + self._batch_size]
            awaited = self._begin(batch) if begun.held_bytes < most_bytes else None
            begun.batches.append((batch, awaited))
            begun.held_bytes += 0 if awaited is None else awaited.held_bytes
        return begun

    def end(self, begun: Begun) -> list[Prediction | TaskFailure]:
        """What `run` says of the same views.

        Raises:
            NeedsCare, RunFailed, WinnowError: as `run`.
        """
        answers: list[Prediction | TaskFailure] = []
        while begun.batches:
            answers.extend(self._attempt(*begun.batches.pop(0)))
        return answers

    def _begin(self, batch: Sequence[View]) -> Pending | None:
        self._entering(self.task)
        try:
            return self.operator.begin(batch)
        except WinnowError:
            raise
        except Exception as error:  # it is said by whom, and of which view, when the batch is run again in its turn
            _end_if_device_is_lost(error)
            return None

    def _attempt(self, batch: Sequence[View], awaited: Pending | None = None) -> Sequence[Prediction | TaskFailure]:
        self._entering(self.task)
        try:
            predictions = self.operator.run(batch) if awaited is None else awaited.collect()
        except WinnowError:
            raise
        except Exception as error:
            _end_if_device_is_lost(error)
            if len(batch) == 1:
                return [self._failure(error)]
            half = len(batch) // 2
            if _is_out_of_memory(error):
                self._batch_size = half
            return [*self._attempt(batch[:half]), *self._attempt(batch[half:])]
        if len(predictions) != len(batch):
            raise RunFailed(
                f"task {self.task!r}: its operator gave {len(predictions)} predictions for {len(batch)} images",
                hint="an operator must return exactly one prediction per image, in order; fix the operator",
            )
        return predictions

    def _failure(self, error: Exception) -> TaskFailure:
        if _is_out_of_memory(error) and not self._alone:
            raise NeedsCare(f"task {self.task!r} ran out of memory on one image") from error
        return TaskFailure(_say(error))


def _say(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:500]}" if text else type(error).__name__


def _end_if_device_is_lost(error: Exception) -> None:
    """End this process as a crash would, if what was raised leaves its device unusable until the process ends.

    After an illegal access or a failed assertion on a CUDA device every later call in the process fails likewise:
    going on would accuse each image that comes after the one at fault. A crash puts the shard under quarantine.
    """
    # by name, because operators without torch should not import it
    if any(kind.__name__ == "AcceleratorError" for kind in type(error).__mro__) and not _is_out_of_memory(error):
        sys.stderr.write(f"the device is lost: {_say(error)}\n")
        sys.stderr.flush()
        os.abort()


def _is_out_of_memory(error: Exception) -> bool:
    # by name, because operators without torch should not import it; torch's CPU allocator raises a RuntimeError
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in str(error) or _CUDA_MEMORY in str(error))
