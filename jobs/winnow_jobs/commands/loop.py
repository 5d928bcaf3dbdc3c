"""`winnow loop`: rounds of running, asking, learning and promoting that nobody has to drive."""

import getpass
from dataclasses import asdict
from typing import Annotated

import typer

from winnow_jobs.commands.options import AsJson, SpecPath, now
from winnow_jobs.head_learning.fit import HeadKind
from winnow_jobs.head_learning.learn_heads import HeadOptions
from winnow_jobs.render import Screen


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
    as_json: AsJson = False,
) -> None:
    """Run, send to people, pull, form the consensus, learn heads, promote those that the gate passes, run again.

    Every round pulls what people answered, waiting for it if it must, and ends with a run by the heads that stand then,
    which sends the next questions. Stop it with Ctrl-C at any moment; the same command goes on.
    """
    from winnow_jobs.loop import LoopOptions, Outside, loop  # it brings in all that the other commands need

    options = LoopOptions(rounds, wait, until_enough, HeadOptions(head, seed, by=getpass.getuser()))
    screen, steps = Screen(as_json=as_json), []
    with screen.listening() as listener:
        for step in loop(spec, options, Outside(listener, now)):
            steps.append(asdict(step))
            if not as_json:
                screen.say(f"round {step.round}, {step.name}: {step.text}")
    screen.record({"rounds": rounds, "steps": steps})
