"""What stands in Label Studio? Its projects and tasks, as much of them as is looked at."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Project:
    """A project as the server has it; `overlap`: how many people answer a task at first; `is_new`: made just now.

    `instructions`: what people may read of what is asked of them, in HTML.
    """

    id: int
    config: str
    overlap: int = 1
    instructions: str = ""
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task that stands in a project: its answers, how many people are to answer it, and how many skipped it."""

    id: int
    annotations: int
    overlap: int = 1
    skips: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """Of the tasks with a dedupe_key in a project: how many, the newest one's id, and how many answers (not skips)."""

    tasks: int
    newest_id: int | None
    answers: int
