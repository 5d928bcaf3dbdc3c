"""Which options do commands share? Their annotated types, once."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The job spec, a YAML file.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON record on stdout; logs on stderr.")]


def now() -> datetime:
    """The clock of every command."""
    return datetime.now(UTC)


def split(values: list[str] | None) -> list[str]:
    """Options that may be repeated or separated by commas."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]
