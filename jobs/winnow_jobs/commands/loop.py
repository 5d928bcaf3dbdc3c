"""`winnow loop`: rounds of running, asking, learning and promoting that nobody has to drive."""

import getpass
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from winnow_jobs.commands.options import AsJson, SpecPath, now
from winnow_jobs.head_learning.fit import HeadKind
from winnow_jobs.head_learning.learn_heads import HeadOptions
from winnow_jobs.render import Screen

if TYPE_CHECKING:
    from winnow_jobs.loop import Step, Turn


def loop_command(
    spec: SpecPath,
    *,
    rounds: Annotated[int, typer.Option(min=1, help="How many times to learn.")] = 1,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long people may take, and Label Studio be away.")
    ] = 0.0,
    until_enough: Annotated[
        bool, typer.Option("--until-enough", help="End sooner where more labels hardly help any head.")
    ] = False,
    head: Annotated[HeadKind, typer.Option(help="As for winnow learn --heads.")] = HeadKind.LINEAR,
    seed: Annotated[int, typer.Option(min=0, help="As for winnow learn --heads.")] = 0,
    every: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Do it all again this often, until stopped.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run, send to people, pull, form the consensus, learn heads, promote those that the gate passes, run again.

    Every round pulls what people answered, waiting for it if it must, and ends with a run by the heads that stand then,
    which sends the next questions. Stop it with Ctrl-C at any moment; the same command goes on.

    With --every it begins again so many seconds after it began, whatever became of it; --json writes a line each time.
    """
    from winnow_jobs.loop import LoopOptions, Outside, Turn, loop, scheduled  # it brings in all that the others need

    options = LoopOptions(rounds, wait, until_enough, HeadOptions(head, seed, by=getpass.getuser()))
    screen, steps = Screen(as_json=as_json), []
    with screen.listening() as listener:
        outside = Outside(listener, now)
        if every is not None:
            for one in scheduled(spec, options, outside, every_s=every):
                if isinstance(one, Turn):
                    _end(screen, rounds, one)
                else:
                    _tell(screen, one)
            return
        for step in loop(spec, options, outside):
            steps.append(step)
            _tell(screen, step)
    _end(screen, rounds, Turn(tuple(steps)))


def _tell(screen: Screen, step: "Step") -> None:
    if not screen.as_json:
        screen.say(f"round {step.round}, {step.name}: {step.text}")


def _end(screen: Screen, rounds: int, turn: "Turn") -> None:
    error = None if turn.error is None else {"error": turn.error.message, "hint": turn.error.hint}
    screen.record({"rounds": rounds, "steps": [asdict(step) for step in turn.steps], "ended_by": error})
    if turn.error is not None:
        screen.note(f"{turn.error}\n  the next turn goes on with what is there", warning=True)
