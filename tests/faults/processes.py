"""Which processes belong to a driver, and what do they hold? Read from /proc, never by name alone."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

ACTOR = b"ray::ShardWorker"


def descendants(pid: int) -> Iterator[int]:
    """Every process below `pid`, while it lives."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))


def actors_of(driver: int) -> list[int]:
    """The actors of a driver that are open or opening; also those that lost their raylet, and work on for a while."""
    return sorted(pid for pid in in_session(driver) if command_of(pid).startswith(ACTOR))


def raylet_of(driver: int) -> int | None:
    """The raylet that a driver started."""
    names = {pid: command_of(pid).split(b"\0")[0] for pid in descendants(driver)}
    return next((pid for pid, name in names.items() if name.endswith(b"/raylet")), None)


def in_session(leader: int) -> list[int]:
    """Every process of the session that `leader` began, whoever its parent is now."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            fields = _stat(int(entry.name))
            if fields and int(fields[3]) == leader and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def command_of(pid: int) -> bytes:
    """The command line of a process; empty once it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def open_paths(pid: int) -> set[str]:
    """The paths of what a process has open."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path))  # noqa: PTH115 (many times a second)
    return found


def is_alive(pid: int) -> bool:
    """Whether it has not ended; a stopped process is alive."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def send(pid: int, number: signal.Signals) -> bool:
    """Whether the process was there to get the signal."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def freeze(pid: int, deadline_s: float = 5.0) -> bool:
    """Stop a process, and wait until it stands still; False if it has ended."""
    if not send(pid, signal.SIGSTOP):
        return False
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        states = _thread_states(pid)
        if not states:
            return False
        if states <= {"T"}:
            return True
        time.sleep(0.001)
    return is_alive(pid)  # a thread in an uninterruptible sleep stops when it wakes


def end_session(leader: int, deadline_s: float = 30.0) -> None:
    """Kill whatever is left of a session, and wait until it is gone."""
    end = time.monotonic() + deadline_s
    while left := in_session(leader):
        for pid in left:
            send(pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise TimeoutError(f"processes {left} of session {leader} do not end")
        time.sleep(0.02)


def _thread_states(pid: int) -> set[str]:
    states = set()
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                states.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return states - {"Z", "X"}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: state, parent, group, session; none once it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []
