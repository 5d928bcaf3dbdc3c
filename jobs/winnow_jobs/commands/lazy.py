"""When is a command imported? When it is asked for: all of them together take seconds, and a person asks for one."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

Loader = Callable[[], Any]  # of a function that is a command, or of a Typer with commands of its own


def named(place: str) -> Loader:
    """What is called `FUNCTION` in `winnow_jobs.commands.MODULE`, written `MODULE:FUNCTION`."""
    module, _, name = place.partition(":")
    return lambda: getattr(import_module(f"winnow_jobs.commands.{module}"), name)


def lazy_group(loaders: Mapping[str, Loader]) -> type[TyperGroup]:
    """A group of these commands, in this order; `--help` of the group itself imports them all."""

    class _Group(TyperGroup):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self.commands: Any = _Commands(loaders)

        def invoke(self, ctx: Any) -> Any:
            try:
                return super().invoke(ctx)
            except typer.BadParameter as error:  # of a wrong choice typer repeats pydantic's own words before its own
                error.message = error.message.removeprefix("Value error, ")
                raise

    return _Group


class _Commands(Mapping[str, Any]):
    """Names are known, commands are made when they are taken."""

    def __init__(self, loaders: Mapping[str, Loader]) -> None:
        self._loaders = loaders

    def __getitem__(self, name: str) -> Any:
        return _made(name, self._loaders[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)


@cache
def _made(name: str, load: Loader) -> Any:
    found = load()
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        command = typer.main.get_command(alone)
    command.name = name
    return command
