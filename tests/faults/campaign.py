"""How many kills does the engine survive? Run after run under seeded faults, each judged, each failing one replayable.

`python -m tests.faults.campaign --deck short --seed 1` does what the tests do, and says what struck when.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from tests.faults.arena import Shape, arena_in, corpus_in
from tests.faults.harness import Harness, Story, Stuck
from tests.faults.ledgers import Ledger, ServerLedger
from tests.faults.schedule import DECKS, Kind, schedule
from tests.faults.verdict import harm, rows_in
from tests.servers.postgres import postgres_server

SEEDS_PER_CAMPAIGN = 10_000  # so that no two campaigns share the seed of a run
UNDISTURBED_S = 10.0  # what an undisturbed run takes where nothing else runs


@dataclass(slots=True)
class Campaign:
    """What came of several runs."""

    stories: list[Story] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Processes killed in the middle of work."""
        return sum(story.kills for story in self.stories)

    @property
    def faults(self) -> Counter[str]:
        """How often what struck at which moment."""
        return Counter(f"{blow.fault.kind}, {blow.fault.moment}" for story in self.stories for blow in story.blows)


@dataclass(frozen=True, slots=True)
class Ground:
    """What all runs of a campaign share: the corpus, and the rows of an undisturbed run."""

    folder: Path
    shape: Shape
    expected: pa.Table
    undisturbed_s: float

    @property
    def slowness(self) -> float:
        """How many times longer everything may take than where nothing else runs: by that run, and by the load now."""
        return max(1.0, self.undisturbed_s / UNDISTURBED_S, os.getloadavg()[0] / (os.cpu_count() or 1))


def prepare(folder: Path, shape: Shape) -> Ground:
    """Make the corpus, and run the job over it undisturbed."""
    corpus = corpus_in(folder / "corpus", shape.items)
    with arena_in(folder / "undisturbed", corpus, shape.undisturbed()) as arena:
        start = time.monotonic()
        story = Harness(arena).run()
        seconds = time.monotonic() - start
        if story.problems or story.redone:
            raise RuntimeError(f"an undisturbed run went wrong: {story}")
        return Ground(folder, shape, rows_in(arena.out), seconds)


def disturb(ground: Ground, seed: int, deck: str, *, kills: int | None = None, ledger: Ledger | None = None) -> Story:
    """One run under the faults of a deck in the order of a seed; its story, with what is wrong in the end.

    `kills` is after how many of them the rest of the deck is left out.
    """
    faults = schedule(seed, DECKS[deck], shard_items=ground.shape.shard_items)
    slowness = ground.slowness
    # a deadline that a busy machine alone exceeds would end actors that nothing happened to
    shape = replace(ground.shape, shard_deadline_s=ground.shape.shard_deadline_s * slowness)
    with arena_in(ground.folder / f"{deck}-{seed}", ground.folder / "corpus", shape, ledger) as arena:
        harness = Harness(arena, faults, kills=kills, slowness=slowness)
        try:
            story = harness.run()
        except (Stuck, TimeoutError) as error:
            story = harness.story
            story.problems.append(f"{type(error).__name__}: {error}")
            return story
        story.problems += harm(arena, ground.expected, kills=len(story.blows))
        return story


def campaign(
    ground: Ground,
    seed: int,
    deck: str,
    *,
    kills: int,
    whole: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    done: Campaign | None = None,
) -> Campaign:
    """Runs with new seeds until at least `kills` processes were killed; `whole` decks are dealt to their end.

    `done` is added to, so that a caller has what came before an error.
    """
    done = Campaign() if done is None else done
    while done.kills < kills:
        one = seed * SEEDS_PER_CAMPAIGN + len(done.stories)
        with _ledger(deck) as ledger:
            left = None if whole else kills - done.kills
            again = replay(one, deck, ground.shape.items, left)
            try:
                story = disturb(ground, one, deck, kills=left, ledger=ledger)
            except Exception as error:
                error.add_note(f"in the run of seed {one}; replay with:  {again}")
                raise
        done.stories.append(story)
        tell(
            f"seed {one}: {story.kills} kills, {story.redone} images predicted again where {story.allowed} may be; "
            f"{done.kills} of {kills} kills"
        )
        if story.problems:
            done.failures.append(f"replay with:  {again}\n  " + "\n  ".join(story.problems))
            tell(done.failures[-1])
        if len(done.stories) > 1 and not any(story.kills for story in done.stories[-2:]):
            raise Stuck("no fault finds a run in the middle of work")
    return done


def replay(seed: int, deck: str, items: int, kills: int | None) -> str:
    """The command that does one run again."""
    most = "" if kills is None else f" --kills {kills}"
    return f"python -m tests.faults.campaign --deck {deck} --items {items} --replay {seed}{most}"


@contextmanager
def _ledger(deck: str) -> Iterator[Ledger | None]:
    """None for a file in the run's own folder; a server where the deck's faults are a server's."""
    if not any(kind is Kind.STOP_LEDGER for kind, _ in DECKS[deck]):
        yield None
        return
    with postgres_server() as server:
        yield ServerLedger(server)


def main() -> int:
    """Run one campaign, or one run of it again; 0 if there was no harm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deck", choices=sorted(DECKS), default="short")
    parser.add_argument("--kills", type=int, help="after how many it ends (without: when the deck is dealt)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--items", type=int, default=Shape().items, help="images of every run")
    parser.add_argument("--replay", type=int, metavar="SEED", help="the run of a seed that failed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-faults-") as scratch:
        ground = prepare(Path(scratch), Shape(items=options.items))
        if options.replay is not None:
            with _ledger(options.deck) as ledger:
                story = disturb(ground, options.replay, options.deck, kills=options.kills, ledger=ledger)
            done = Campaign([story], story.problems)
        else:
            whole = options.kills is None
            done = campaign(ground, options.seed, options.deck, kills=options.kills or 1, whole=whole, tell=_tell)
    for story in done.stories:
        _tell_story(story)
    sys.stdout.write(json.dumps({"kills": done.kills, "faults": done.faults, "failures": done.failures}) + "\n")
    return 1 if done.failures else 0


def _tell_story(story: Story) -> None:
    for blow in story.blows:
        since_s = blow.at_s - story.blows[0].at_s
        in_hand = ", ".join(f"{count} images of shard {shard}" for shard, count in sorted(blow.in_hand.items()))
        _tell(
            f"{since_s:7.1f} s  {blow.committed:4} of {blow.shards} shards  {blow.fault.kind}, {blow.fault.moment}"
            f" ({blow.hit} actors hit; in hand: {in_hand or 'nothing'})"
        )
    _tell(f"drivers that ended by themselves, before the run was closed: {story.exits}")
    _tell(f"processes that stayed when every driver had ended: {story.left}")


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
