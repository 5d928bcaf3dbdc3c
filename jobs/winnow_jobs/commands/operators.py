"""`winnow operators`: which operators are there, with which default model and which parameters?"""

from typing import Annotated

import typer

from winnow_jobs.render import Screen
from winnow_workers.catalogue import OPERATORS


def operators(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON record per operator.")] = False
) -> None:
    """List the operators of the catalogue: default model and parameters."""
    screen = Screen(as_json=as_json)
    for name, kind in OPERATORS.items():
        parameters = kind.params_type.model_json_schema()
        record = {"operator": name, "default_model": kind.default_model, "parameters": parameters}
        if not screen.record(record):
            typer.echo(f"{name}: model {kind.default_model or '(a task must name one)'}")
            typer.echo(f"  parameters: {', '.join(parameters.get('properties', {})) or 'none'}")
