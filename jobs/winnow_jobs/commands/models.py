"""`winnow models`: what the registry holds, and how something comes into it."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from winnow_jobs.commands.options import AsJson, now
from winnow_jobs.machine import registry_uri
from winnow_jobs.render import Screen
from winnow_storage.blobs import open_store
from winnow_storage.errors import ModelError
from winnow_storage.registry import ModelEntry, Registry
from winnow_storage.uri import parse
from winnow_workers.models.convert import as_model_file

models = typer.Typer(no_args_is_help=True, help="The model registry: add, list, show, promote.")
RegistryUri = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="A folder or s3:// prefix; $WINNOW_REGISTRY, or the user's data folder, by default.",
        show_default=False,
    ),
]


def open_registry(uri: str | None) -> Registry:
    """The registry at `uri`, or this machine's."""
    return Registry(open_store(parse(uri or registry_uri())), now=now)


def record_of(entry: ModelEntry) -> dict[str, Any]:
    """A registered model as a record."""
    return {
        "name": entry.name,
        "version": entry.version,
        "stages": list(entry.stages),
        "sha256": entry.sha256,
        "bytes": entry.bytes,
        "uri": entry.uri,
        "card": entry.card,
    }


@models.command()
def add(
    name: Annotated[str, typer.Argument(help="The name it gets, such as kind.")],
    file: Annotated[
        Path,
        typer.Argument(help="A safetensors file with its card, or a weights_only state dict with --sha256 and --card."),
    ],
    *,
    stage: Annotated[
        str | None, typer.Option(help="Promote it to this stage at once, such as prod.", show_default=False)
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file's digest must be.", show_default=False)] = None,
    card: Annotated[Path | None, typer.Option(help="A JSON card for a file that has none.", show_default=False)] = None,
    registry: RegistryUri = None,
    as_json: AsJson = False,
) -> None:
    """Register a model file as the next version of NAME."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}", hint="give the path of a weights file") from error
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise ModelError(f"{file} has the sha256 {found}, not {sha256}", hint="get the file again, or correct --sha256")
    encoded, described = as_model_file(data, where=str(file), sha256=sha256, card=card)
    models_here = open_registry(registry)
    entry = models_here.add(name, encoded, described)
    if stage is not None:
        models_here.promote(name, entry.version, stage)
        entry = models_here.resolve(f"{name}@{entry.version}")
    screen = Screen(as_json=as_json)
    if not screen.record(record_of(entry)):
        screen.say(f"models/{entry.name}@{entry.version} ({entry.sha256[:12]}, {entry.bytes} bytes)")


@models.command("list")
def list_models(*, registry: RegistryUri = None, as_json: AsJson = False) -> None:
    """List the registered models."""
    entries = open_registry(registry).entries(None)
    screen = Screen(as_json=as_json)
    if not screen.record({"models": [record_of(entry) for entry in entries]}):
        if not entries:
            screen.say("no models yet: winnow models add NAME FILE")
        for entry in entries:
            stages = f" [{', '.join(entry.stages)}]" if entry.stages else ""
            screen.say(f"models/{entry.name}@{entry.version}{stages}  {entry.sha256[:12]}  {entry.bytes} bytes")


@models.command()
def show(
    ref: Annotated[str, typer.Argument(help="NAME, NAME@VERSION or NAME@STAGE.")],
    *,
    registry: RegistryUri = None,
    as_json: AsJson = False,
) -> None:
    """Show one model with its card."""
    entry = open_registry(registry).resolve(ref.removeprefix("models/"))
    screen = Screen(as_json=as_json)
    if not screen.record(record_of(entry)):
        for key, value in record_of(entry).items():
            screen.say(f"{key}: {value}")


@models.command()
def promote(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    version: Annotated[str, typer.Argument(help="Its version.")],
    stage: Annotated[str, typer.Argument(help="The stage, such as prod.")],
    *,
    registry: RegistryUri = None,
    as_json: AsJson = False,
) -> None:
    """Let a stage name this version from now on. Runs that are open keep what they pinned."""
    models_here = open_registry(registry)
    models_here.promote(name, version, stage)
    entry = models_here.resolve(f"{name}@{stage}")
    screen = Screen(as_json=as_json)
    if not screen.record(record_of(entry)):
        screen.say(f"models/{name}@{stage} is version {entry.version}")
