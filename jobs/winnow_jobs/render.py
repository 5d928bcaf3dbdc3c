"""How does a person, or a program, read what a command says? Text and progress, or one JSON record on stdout."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from winnow_jobs.events import Event, Listener, Note, Progress

PLAIN_LINE_EVERY_S = 10.0


class Screen:
    """Results on stdout, everything else on stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout = sys.stdout  # as it is now: it is turned aside while a Ray cluster of our own is there
        self.out = Console(file=self._stdout, highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def record(self, record: dict[str, Any]) -> bool:
        """Write the record if JSON was asked for; whether it was."""
        if self.as_json:
            self._stdout.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
            self._stdout.flush()
        return self.as_json

    def say(self, text: str) -> None:
        """One line of a result, for people."""
        self.out.print(text, markup=False)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """A small table, for people."""
        table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*row)
        self.out.print(table)

    def note(self, text: str, *, warning: bool = False) -> None:
        """One line beside the result."""
        self.err.print(("warning: " if warning else "") + text, markup=False, style="yellow" if warning else None)

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """A listener that shows progress: a bar at a terminal, a plain line now and then elsewhere."""
        if not self.err.is_terminal:
            yield _PlainListener(self)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        with ProgressBar(*columns, TimeElapsedColumn(), console=self.err, transient=True) as bar:
            yield _BarListener(self, bar)


def rate_and_eta(progress: Progress, elapsed_s: float) -> str:
    """`12.3 items/s, 0:01:40 left`; no rate before the first item, and nothing left after the last one."""
    if progress.items_now == 0 or elapsed_s <= 0:
        return ""
    rate = progress.items_now / elapsed_s
    if progress.items == progress.items_total:
        return f"{rate:.1f} items/s"
    left_s = math.ceil((progress.items_total - progress.items) / rate)
    return f"{rate:.1f} items/s, {left_s // 3600}:{left_s % 3600 // 60:02d}:{left_s % 60:02d} left"


def outcomes_text(outcomes: dict[str, int]) -> str:
    """`280 done, 12 unreadable`, without the outcomes that did not happen."""
    return ", ".join(f"{count} {name}" for name, count in outcomes.items() if count) or "nothing yet"


class _PlainListener:
    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._start = 0.0  # of a run's work, not of what comes before it
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self._screen.note(event.text, warning=event.warning)
            return
        now = time.monotonic()
        self._start = now if event.items_now == 0 else self._start
        if now - self._last < PLAIN_LINE_EVERY_S and event.items < event.items_total:
            return
        self._last = now
        rate = rate_and_eta(event, now - self._start)
        self._screen.note(
            f"{event.items}/{event.items_total} items, {event.shards}/{event.shards_total} shards: "
            f"{outcomes_text(event.outcomes)}" + (f" ({rate})" if rate else "")
        )


class _BarListener:
    def __init__(self, screen: Screen, bar: ProgressBar) -> None:
        self._screen = screen
        self._bar = bar
        self._task = bar.add_task("starting", total=None, rate="")
        self._start = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self._screen.note(event.text, warning=event.warning)
            return
        now = time.monotonic()
        self._start = now if event.items_now == 0 else self._start
        self._bar.update(
            self._task,
            completed=event.items,
            total=event.items_total,
            description=outcomes_text(event.outcomes),
            rate=rate_and_eta(event, now - self._start),
        )
