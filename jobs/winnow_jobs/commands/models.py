"""`winnow models`: what the registry holds, and how something comes into it."""

import getpass
import hashlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from winnow_jobs.commands.options import AsJson, now
from winnow_jobs.machine import registry_uri
from winnow_jobs.model_check import check_registry
from winnow_jobs.model_index import LedgerFollows, RebuiltIndex, rebuild_index
from winnow_jobs.render import Screen
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.errors import LedgerError, ModelError, UsageError
from winnow_storage.registry import ModelEntry, Registry
from winnow_storage.stages import StageEvent
from winnow_storage.uri import parse
from winnow_workers.models.convert import as_model_file
from winnow_workers.models.folder import resolve_folder
from winnow_workers.models.folder_card import as_model_folder
from winnow_workers.preflight import check_folder

models = typer.Typer(no_args_is_help=True, help="The model registry.")
EXIT_FINDINGS = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
By = Annotated[str | None, typer.Option(help="Who does it; the user of this machine by default.", show_default=False)]
Why = Annotated[str | None, typer.Option(help="Why, for the history.", show_default=False)]
RegistryUri = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="A folder or s3:// prefix; $WINNOW_REGISTRY, or the user's data folder, by default.",
        show_default=False,
    ),
]


def open_registry(uri: str | None) -> Registry:
    """The registry at `uri`, or this machine's; the ledger follows what is changed in it."""
    follows = LedgerFollows(lambda text: Screen(as_json=False).note(text, warning=True))
    return Registry(open_store(parse(uri or registry_uri())), now=now, changed=follows)


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
        typer.Argument(
            help="A safetensors or ONNX file with its card, a weights_only state dict with --sha256 and --card, or a "
            "transformers folder."
        ),
    ],
    *,
    stage: Annotated[
        str | None, typer.Option(help="Promote it to this stage at once, such as prod.", show_default=False)
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file's digest must be.", show_default=False)] = None,
    card: Annotated[Path | None, typer.Option(help="A YAML or JSON card: docs/models.md.", show_default=False)] = None,
    registry: RegistryUri = None,
    as_json: AsJson = False,
) -> None:
    """Register a model file, or a transformers folder, as the next version of NAME."""
    models_here = open_registry(registry)
    if file.is_dir():
        entry = _add_folder(models_here, name, file, sha256=sha256, card=card)
    else:
        entry = _add_file(models_here, name, file, sha256=sha256, card=card)
    if stage is not None:
        models_here.promote(name, entry.version, stage, by=getpass.getuser())
        entry = models_here.resolve(f"{name}@{entry.version}")
    screen = Screen(as_json=as_json)
    if not screen.record(record_of(entry)):
        screen.say(f"models/{entry.name}@{entry.version} ({entry.sha256[:12]}, {entry.bytes} bytes)")


def _add_file(registry: Registry, name: str, file: Path, *, sha256: str | None, card: Path | None) -> ModelEntry:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}", hint="give the path of a weights file") from error
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise ModelError(f"{file} has the sha256 {found}, not {sha256}", hint="get the file again, or correct --sha256")
    model = as_model_file(data, where=str(file), sha256=sha256, card=card)
    _check_parent(registry, model.card.get("parent"))
    return registry.add(name, model.data, model.card, file=model.file)


def _add_folder(registry: Registry, name: str, folder: Path, *, sha256: str | None, card: Path | None) -> ModelEntry:
    if sha256 is not None:
        raise UsageError(f"--sha256: {folder} is a folder, which has none", hint="leave it out: no pickle is read")
    model = as_model_folder(folder, card=card)
    _check_parent(registry, model.card.parent)
    check_folder(resolve_folder(f"transformers/{folder}", base=Path.cwd()), model.card.kind)
    return registry.add_folder(name, model.files, model.card.model_dump(mode="json"))


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
    """Show one model with its card, and what its model's stages named before."""
    models_here = open_registry(registry)
    entry = models_here.resolve(ref.removeprefix("models/"))
    history = models_here.history(entry.name)
    screen = Screen(as_json=as_json)
    if screen.record(record_of(entry) | {"history": [asdict(event) for event in history]}):
        return
    for key, value in record_of(entry).items():
        if key != "card":
            screen.say(f"{key}: {value}")
    for key, value in entry.card.items():
        if value not in (None, {}, [], ()):
            screen.say(f"card.{key}: {value}")
    for event in history:
        screen.say(_said_event(event))


@models.command()
def promote(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    version: Annotated[str, typer.Argument(help="Its version.")],
    stage: Annotated[str, typer.Argument(help="The stage, such as prod.")],
    *,
    by: By = None,
    why: Why = None,
    registry: RegistryUri = None,
    as_json: AsJson = False,
) -> None:
    """Let a stage name this version from now on. Runs that are open keep what they pinned."""
    models_here = open_registry(registry)
    models_here.promote(name, version, stage, by=by or getpass.getuser(), why=why)
    entry = models_here.resolve(f"{name}@{stage}")
    screen = Screen(as_json=as_json)
    if not screen.record(record_of(entry)):
        screen.say(f"models/{name}@{stage} is version {entry.version}")


@models.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    stage: Annotated[str, typer.Argument(help="The stage, such as prod.")],
    *,
    by: By = None,
    why: Why = None,
    registry: RegistryUri = None,
    as_json: AsJson = False,
) -> None:
    """Let a stage name the version again that it named before; once more, the one before that.

    Runs that are open keep what they pinned.
    """
    models_here = open_registry(registry)
    left = models_here.resolve(f"{name}@{stage}").version
    entry = models_here.rollback(name, stage, by=by or getpass.getuser(), why=why)
    screen = Screen(as_json=as_json)
    if not screen.record(record_of(entry) | {"left": left}):
        screen.say(f"models/{name}@{stage} is version {entry.version} again, no longer {left}")


@models.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One model only.", show_default=False)] = None,
    *,
    index: Annotated[bool, typer.Option(help="Note in the ledger what the registry says.")] = True,
    registry: RegistryUri = None,
    as_json: AsJson = False,
) -> None:
    """Check every stored version: its bytes by sha256, that it opens, that its card is the file's; and every stage.

    Rebuilds the ledger's index of the registry. Ends with exit code 1 if anything is wrong in the registry.
    """
    models_here = open_registry(registry)
    checked = check_registry(models_here, name)
    rebuilt = rebuild_index(models_here, name) if index else RebuiltIndex((), None)
    screen = Screen(as_json=as_json)
    if not screen.record(checked.record() | rebuilt.record()):
        for finding in checked.findings:
            screen.say(f"{finding.place}: {finding.what}" + (f"\n  next: {finding.hint}" if finding.hint else ""))
        screen.say(
            f"{counted(checked.versions, 'version')} and {counted(checked.stages, 'stage')} checked: "
            + (counted(len(checked.findings), "finding") if checked.findings else "all sound")
        )
        _show_rebuilt(screen, rebuilt)
    if checked.findings:
        raise typer.Exit(EXIT_FINDINGS)
    if rebuilt.error is not None:
        raise typer.Exit(LedgerError.exit_code)


def _show_rebuilt(screen: Screen, rebuilt: RebuiltIndex) -> None:
    if rebuilt.differed:
        screen.say(f"the ledger differed and was brought up to date: {', '.join(rebuilt.differed)}")
    if rebuilt.error is not None:
        screen.note(f"the ledger was not brought up to date: {rebuilt.error.message}", warning=True)
        screen.note(f"  next: {rebuilt.error.hint or 'winnow models verify again'}")


def _check_parent(registry: Registry, parent: object) -> None:
    """A parent is a digest, or a version that is there.

    Raises:
        ModelError: it is neither.
    """
    if isinstance(parent, str) and not _SHA256.fullmatch(parent):
        registry.resolve(parent)


def _said_event(event: StageEvent) -> str:
    verb = "is" if event.action == "promote" else "went back to"
    by = f" by {event.by}" if event.by else ""
    why = f": {event.why}" if event.why else ""
    return f"{event.at}  {event.stage} {verb} {event.version}{by}{why}"
