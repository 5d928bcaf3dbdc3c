"""What happens to a run under a schedule of faults? Each one strikes where it provably hits work that is under way.

An actor is stopped before anything is done to it; what it is in the middle of is looked at while it stands still, and
the fault happens only if that is what the schedule asks for. Otherwise the actor goes on, and none was there.
"""

import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.faults.arena import Arena, Driver
from tests.faults.ledgers import FileLedger, ServerLedger
from tests.faults.processes import (
    actors_of,
    command_of,
    descendants,
    freeze,
    in_session,
    is_alive,
    open_paths,
    raylet_of,
    send,
)
from tests.faults.schedule import OF_ACTORS, OF_LEDGERS, Fault, Kind, Moment
from winnow_storage.errors import RayError

POLL_S = 0.01
LOOK_S = 0.25  # how often processes are looked for: that costs more than looking at one
STUCK_S = 300.0  # nothing at all happens for so long
END_S = 180.0
LEFT_S = 20.0  # for processes to notice that nobody needs them any more
SPARE_DRIVERS = 4
PARTIAL = 3


class Stuck(Exception):
    """A run does not go on, or does not end."""


@dataclass(frozen=True, slots=True)
class Blow:
    """A fault that struck, and what it hit."""

    fault: Fault
    committed: int  # shards, at that moment
    shards: int  # of the run
    in_hand: dict[int, int]  # shard -> images of it that the actors that were hit had predicted, uncommitted
    hit: int  # actors that may have to begin again
    kills: int
    at_s: float  # of time.monotonic


@dataclass(slots=True)
class Story:
    """What happened in one arena."""

    blows: list[Blow] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)  # of drivers that ended by themselves
    predictions: int = 0  # until the run was closed
    redone: int = 0
    allowed: int = 0  # images that may be predicted again: two shards for each actor that was hit
    left: list[str] = field(default_factory=list)  # processes that stayed when every driver had ended
    problems: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Processes killed in the middle of work."""
        return sum(blow.kills for blow in self.blows)


@dataclass(frozen=True, slots=True)
class _Asleep:
    actor: int
    shards: frozenset[int]


class Harness:
    """One arena, and the faults that are still to come."""

    def __init__(
        self, arena: Arena, faults: Iterable[Fault] = (), *, kills: int | None = None, slowness: float = 1.0
    ) -> None:
        """`kills` is after how many of them the rest of the faults is left out; `slowness` stretches deadlines."""
        self._slowness = slowness
        self._arena = arena
        self._faults = deque(faults)
        self._kills = kills
        self.story = Story()
        self._asleep: list[_Asleep] = []
        self._stopped: list[Driver] = []
        self._without_raylet: set[int] = set()  # drivers that may find no node any more
        self._families: dict[int, set[int]] = {}  # actor -> itself and its children
        self._looked_at = 0.0
        self._seen_at_blow = 0
        self._blows_at_start = 0
        self._last_sign: tuple[int, ...] = ()
        self._last_sign_at = time.monotonic()

    def run(self) -> Story:
        """Until the run is closed, and every process of it has ended.

        Raises:
            Stuck: it does not go on, or drivers end again and again.
        """
        self._driver = self._arena.start()
        while not self._arena.is_closed():
            self._arena.log.read()
            self._arena.ledger.mend()
            self._go_on_if_ended()
            self._wake_slept_past()
            if self._faults and (self._kills is None or self.story.kills < self._kills):
                self._try_to_strike()
            self._look_for_signs()
            time.sleep(POLL_S)
        self._finish()
        return self.story

    def _go_on_if_ended(self) -> None:
        code = self._driver.process.poll()
        if code is None or self._arena.is_closed():
            return
        blows = len(self.story.blows)
        if code != -signal.SIGKILL:
            self.story.exits.append(code)
            if blows == self._blows_at_start:
                self._problem(f"a driver that nothing happened to ended with {code}: {self._driver.last_words}")
        if len(self._arena.drivers) > blows + SPARE_DRIVERS:
            raise Stuck(f"{len(self._arena.drivers)} drivers after {blows} faults; the last said: {self._driver.said}")
        self._arena.ledger.mend(now=True)
        self._blows_at_start = blows
        self._driver = self._arena.start()

    def _try_to_strike(self) -> None:
        fault, committed = self._faults[0], self._arena.committed()
        if len(committed) < self._seen_at_blow + fault.commits:
            return
        self._look_for_actors()
        asleep = {one.actor for one in self._asleep}
        ready = [actor for actor in self._families if actor not in asleep and self._is_at(actor, fault) is not None]
        if not ready:
            return
        picked = ready if fault.kind is Kind.KILL_ACTORS else [ready[int(fault.choice * len(ready))]]
        frozen = [actor for actor in picked if freeze(actor)]
        self._arena.log.read()
        found = {actor: self._is_at(actor, fault) for actor in frozen}
        hit = {actor: in_hand for actor, in_hand in found.items() if in_hand is not None}
        left = [actor for actor in frozen if actor not in hit]
        if hit and not self._arena.is_closed():
            left += self._strike(fault, hit)
        for actor in left if hit else frozen:
            send(actor, signal.SIGCONT)

    def _look_for_actors(self) -> None:
        if time.monotonic() - self._looked_at > LOOK_S:
            self._families = {actor: {actor, *descendants(actor)} for actor in actors_of(self._driver.pid)}
            self._looked_at = time.monotonic()

    def _is_at(self, actor: int, fault: Fault) -> dict[int, int] | None:
        """The work that an actor has in hand, if it is at the moment that the fault asks for."""
        if fault.kind is Kind.KILL_CHILD and not self._children_at_work(actor):
            return None
        in_hand, paths = self._in_hand(self._families.get(actor, set())), open_paths(actor)
        putting = any(self._arena.temporary(path) for path in paths)
        put = str(self._arena.results) in paths  # whoever linked an object syncs its folder
        match fault.moment:
            case Moment.PREDICTING:
                is_there = not putting and not put and max(in_hand.values(), default=0) >= fault.items
            case Moment.PUTTING:
                is_there = putting
            case Moment.PUT:
                is_there = put and not putting
        return in_hand if is_there else None

    def _children_at_work(self, actor: int) -> list[int]:
        family = self._families.get(actor, set()) - {actor}
        return [child for child in sorted(family) if self._in_hand({child}) and is_alive(child)]

    def _in_hand(self, processes: set[int]) -> dict[int, int]:
        """How many images of shards that are not committed these processes have predicted."""
        committed, log = self._arena.committed(), self._arena.log
        numbers = {number for pid in processes for number in log.by_process.get(pid, ())}
        shards = Counter(self._arena.shard_of(number) for number in numbers)
        return {shard: count for shard, count in shards.items() if shard not in committed}

    def _strike(self, fault: Fault, hit: dict[int, dict[int, int]]) -> list[int]:
        """Do it; the stopped actors that are to go on."""
        committed, shards = len(self._arena.committed()), self._arena.shape.shards
        in_hand = {shard: count for work in hit.values() for shard, count in work.items()}
        if fault.kind in OF_ACTORS:
            again, kills, left = len(hit), len(hit), self._strike_actors(fault.kind, hit)
        elif fault.kind is Kind.STOP_ACTOR:
            again, kills, left = len(hit), 0, []
            self._asleep += [_Asleep(actor, frozenset(work)) for actor, work in hit.items()]
        elif fault.kind in OF_LEDGERS:
            again, kills, left = 0, 0, list(hit)
            self._fail_ledger(fault.kind)
        else:
            again, left = len(actors_of(self._driver.pid)), list(hit)
            kills = self._strike_driver(fault.kind)
        self.story.blows.append(Blow(fault, committed, shards, in_hand, again, kills, time.monotonic()))
        self._seen_at_blow = committed
        self._faults.popleft()
        return left

    def _strike_actors(self, kind: Kind, hit: Iterable[int]) -> list[int]:
        if kind is not Kind.KILL_CHILD:
            for actor in hit:
                send(actor, signal.SIGKILL)
            return []
        for actor in hit:
            send(self._children_at_work(actor)[0], signal.SIGKILL)
        return list(hit)

    def _strike_driver(self, kind: Kind) -> int:
        """How many kills that was."""
        driver = self._driver
        match kind:
            case Kind.KILL_DRIVER:
                return int(send(driver.pid, signal.SIGKILL))
            case Kind.KILL_RAYLET:
                raylet = raylet_of(driver.pid)
                self._without_raylet.add(driver.pid)
                return int(raylet is not None and send(raylet, signal.SIGKILL))
            case Kind.KILL_MACHINE:
                ended = [send(pid, signal.SIGKILL) for pid in in_session(driver.pid)]
                return int(any(ended))
            case _:
                freeze(driver.pid)
                self._stopped.append(driver)
                self._blows_at_start = len(self.story.blows) + 1
                self._driver = self._arena.start()
                return 0

    def _fail_ledger(self, kind: Kind) -> None:
        match kind, self._arena.ledger:
            case Kind.REMOVE_LEDGER, FileLedger() as ledger:
                ledger.remove()
            case Kind.LOCK_LEDGER, FileLedger() as ledger:
                ledger.lock()
            case Kind.STOP_LEDGER, ServerLedger() as ledger:
                ledger.stop()
            case _:
                raise ValueError(f"this ledger cannot: {kind}")

    def _wake_slept_past(self) -> None:
        """An actor whose work somebody else has committed since goes on."""
        committed = self._arena.committed()
        for one in [one for one in self._asleep if one.shards <= committed or not is_alive(one.actor)]:
            send(one.actor, signal.SIGCONT)
            self._asleep.remove(one)

    def _look_for_signs(self) -> None:
        arena = self._arena
        said = self._driver.told.stat().st_size
        sign = (arena.log.lines, len(arena.committed()), len(arena.drivers), len(self.story.blows), said)
        if sign != self._last_sign:
            self._last_sign, self._last_sign_at = sign, time.monotonic()
        elif time.monotonic() - self._last_sign_at > STUCK_S * self._slowness:
            raise Stuck(f"nothing happens any more; the driver said:\n{self._driver.said}")

    def _finish(self) -> None:
        arena, story = self._arena, self.story
        arena.ledger.mend(now=True)
        arena.log.read()
        story.predictions = arena.log.lines
        story.redone = story.predictions - len(
            {number for numbers in arena.log.by_process.values() for number in numbers}
        )
        story.allowed = sum(2 * arena.shape.shard_items * blow.hit for blow in story.blows)
        before = _objects(arena)
        self._ends_well(self._driver, "the driver that closed the run")
        for one in self._asleep:
            send(one.actor, signal.SIGCONT)
        for driver in self._stopped:
            send(driver.pid, signal.SIGCONT)
            self._ends_well(driver, "a driver that slept")
        for driver in arena.drivers:
            if "Traceback" in driver.said:
                self._problem(f"a driver shows a traceback: {driver.said[-3000:]}")
        self._wait(lambda: not any(is_alive(one.actor) for one in self._asleep), "actors that woke up")
        if story.redone > story.allowed and not arena.shape.poison:  # what poison ends is done again, too
            self._problem(f"{story.redone} images were predicted again, {story.allowed} may be")
        changed = {name for name, was in before.items() if _objects(arena).get(name) != was}
        if changed:
            self._problem(f"objects changed after the run was closed: {sorted(changed)}")
        story.left = _left_behind(arena)

    def _ends_well(self, driver: Driver, what: str) -> None:
        self._wait(lambda: driver.process.poll() is not None, what)
        code, known = driver.process.returncode, (0, PARTIAL, -signal.SIGKILL)
        if code not in ((*known, RayError.exit_code) if driver.pid in self._without_raylet else known):
            self._problem(f"{what} ended with {code}: {driver.last_words}")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline_s = END_S * self._slowness
        end = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > end:
                raise Stuck(f"{what}: no end within {deadline_s:.0f} s")
            time.sleep(0.02)

    def _problem(self, what: str) -> None:
        self.story.problems.append(what)


def _objects(arena: Arena) -> dict[str, tuple[int, int, int]]:
    """Every object of the run by what would change if somebody wrote it again."""
    found = {}
    for path in sorted((arena.out / "runs").rglob("*")):
        if path.is_file() and not arena.temporary(str(path)):
            stat = path.stat()
            found[str(path.relative_to(arena.out))] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return found


def _left_behind(arena: Arena) -> list[str]:
    end = time.monotonic() + LEFT_S
    while left := [pid for driver in arena.drivers for pid in in_session(driver.pid)]:
        if time.monotonic() > end:
            return sorted(command_of(pid).replace(b"\0", b" ").decode(errors="replace")[:100] for pid in left)
        time.sleep(0.2)
    return []
