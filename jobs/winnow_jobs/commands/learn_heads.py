"""`winnow learn --heads`: a head from people's labels, and what the gate says of it."""

from collections.abc import Sequence
from pathlib import Path

from winnow_annotation.gate.verdict import notes, sentence
from winnow_annotation.stopping import advice_text
from winnow_jobs.commands.models import open_registry
from winnow_jobs.head_learning.head_task import head_job
from winnow_jobs.head_learning.learn_heads import HeadOptions, LearnedHead, learn_heads
from winnow_jobs.render import Screen
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.uri import parse


def learn_heads_command(spec: Path, tasks: Sequence[str], options: HeadOptions, screen: Screen) -> None:
    """Learn, judge, perhaps promote, and say so.

    Raises:
        UsageError: none of the tasks could learn anything.
    """
    job = head_job(load_spec(spec), tasks)
    runs = Runs(open_store(parse(job.spec.output)))
    found = learn_heads(job, runs, open_registry(job.spec.registry), options)
    errors = {name: one for name, one in found.items() if isinstance(one, UsageError)}
    learned = [one for one in found.values() if isinstance(one, LearnedHead)]
    if errors and not learned:
        raise next(iter(errors.values()))
    refused = {name: {"error": error.message, "hint": error.hint} for name, error in errors.items()}
    record = {"job": job.spec.job, "heads": {one.task: one.record() for one in learned}, "refused": refused}
    if screen.record(record):
        return
    for one in learned:
        tell_head(screen, one)
    for error in errors.values():
        screen.note(error.message, warning=True)


def tell_head(screen: Screen, one: LearnedHead) -> None:
    """Some lines for people."""
    named, again = f"models/{one.entry.name}@{one.entry.version}", "" if one.is_new else " (there already)"
    screen.say(
        f"{one.task}: {named}{again}, {one.entry.card.get('architecture')} from {counted(one.labels, 'label')} of "
        f"{len(one.by_class)} classes; {one.accuracy:.2%} of labels right that were left out"
    )
    for why, count in one.left_out.items():
        screen.say(f"  {counted(count, 'label')} not used: {why}")
    screen.say(f"  gate: {sentence(one.verdict)}")
    if one.verdict.missing:
        screen.say(f"  {one.verdict.missing:,} more gold items would show it, if it is as good as it looks")
    for note in notes(one.verdict):
        screen.note(f"{one.task}: {note}")
    screen.say(f"  {advice_text(one.stopping)}")
    if one.promoted is not None:
        screen.say(
            f"  models/{one.entry.name}@{one.promoted} is version {one.entry.version} now; winnow run SPEC uses it"
        )
    elif one.verdict.promote:
        screen.say(
            f"  to use it: winnow learn SPEC --heads --promote STAGE, or winnow models promote {one.entry.name} "
            f"{one.entry.version} STAGE"
        )
