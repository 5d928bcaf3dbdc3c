"""`winnow models export` and `winnow models quantize`: other forms of a registered model, kept if they answer alike."""

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from winnow_jobs.commands.fit_anomaly import read_images
from winnow_jobs.commands.models import RegistryUri, open_registry, record_of
from winnow_jobs.commands.options import AsJson
from winnow_jobs.render import Screen
from winnow_storage.errors import ModelError, UsageError
from winnow_storage.ids import digest_bytes
from winnow_storage.registry import ModelEntry
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.sample_images import sample_images
from winnow_workers.models.variants import Compared, Pixels, Task, file_model, folder_model, open_form

SAMPLES = 64
MOST_IMAGES = 512
GATE = 0.99
_LIBRARIES = ("transformers/", "torchvision/", "timm/", "smp/", "builtin/")

Reference = Annotated[str, typer.Argument(help="NAME@VERSION or NAME@STAGE.")]
Kind = Annotated[
    Task | None, typer.Option(help="What it is used for, where its card does not say it.", show_default=False)
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images", help=f"A folder of images to compare on (the first {MOST_IMAGES}); drawn ones by default.",
        show_default=False,
    ),
]  # fmt: skip


def export(
    ref: Reference,
    *,
    onnx: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    kind: Kind = None,
    images: Images = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    registry: RegistryUri = None,
    as_json: AsJson = False,
) -> None:
    """Write a model as one ONNX file, if it answers as the network does in torch.

    The figures stand in the file's card; winnow models add NAME FILE.onnx registers it.
    """
    if onnx.exists() and not force:
        raise UsageError(f"{onnx} is there already", hint="name another file, or add --force")
    entry, model = _registered(ref, registry)
    if entry.uri.endswith(".onnx"):
        raise ModelError(f"{ref} is an ONNX file already", hint=f"copy it from {entry.uri}")
    data, found, exported_kind = _exported(model, kind, _images(images))
    place = model.name
    try:
        onnx.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{onnx} cannot be written: {error.strerror}", hint="name a place that can be") from error
    screen = Screen(as_json=as_json)
    record = {
        "file": str(onnx),
        "sha256": digest_bytes(data),
        "bytes": len(data),
        "parent": place,
        "kind": exported_kind,
    }
    if not screen.record(record | {"parity": asdict(found)}):
        screen.say(f"{onnx} ({len(data)} bytes): {exported_kind}, {_said(found)}")
        screen.say(f"  next: winnow models add {entry.name} {onnx}")


def quantize(
    ref: Reference,
    *,
    to: Annotated[Literal["int8", "bf16"], typer.Option(help="int8: an ONNX file; bf16: half the bytes.")],
    name: Annotated[
        str | None, typer.Option(help="Register it under this name; the parent's by default.", show_default=False)
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Promote it to this stage at once.", show_default=False)] = None,
    gate: Annotated[float, typer.Option(min=0.0, max=1.0, help="The agreement with the parent that is needed.")] = GATE,
    kind: Kind = None,
    images: Images = None,
    registry: RegistryUri = None,
    as_json: AsJson = False,
) -> None:
    """Make a cheaper version of a model, and register it if it agrees with its parent on images.

    Agreement: the share of equal labels (of pixels, in masks), or the lowest cosine of embeddings.
    """
    from winnow_workers.models.quantise import quantised

    entry, model = _registered(ref, registry)
    form, place = open_form(model, kind), model.name
    made, found = quantised(model, form, to, _images(images), parent=place)
    if found.agreement < gate:
        raise ModelError(
            f"{place} in {to} agrees with it in {found.agreement:.4f} on {found.images} images; {gate} is needed",
            hint="measure on images of yours (--images FOLDER), try the other form, or lower --gate",
        )
    here = open_registry(registry)
    added = here.add(name or entry.name, made.data, made.card, file=made.file)
    if stage is not None:
        here.promote(added.name, added.version, stage, by=getpass.getuser(), why=f"{to} of {place}")
        added = here.resolve(f"{added.name}@{added.version}")
    screen = Screen(as_json=as_json)
    if not screen.record(record_of(added) | {"parent": place, "parity": asdict(found)}):
        screen.say(
            f"models/{added.name}@{added.version}: {to} of {place}, {added.bytes} bytes instead of {entry.bytes}; "
            f"{_said(found)}"
        )


def _registered(ref: str, registry: str | None) -> tuple[ModelEntry, ResolvedModel]:
    if ref.startswith(_LIBRARIES):
        raise ModelError(
            f"{ref} is in no registry; other forms are made of registered models",
            hint="register its weights: winnow models add NAME FILE --card card.yaml, or add NAME FOLDER",
        )
    entry = open_registry(registry).resolve(ref)
    pinned = folder_model if entry.is_folder else file_model
    return entry, pinned(entry.uri, entry.sha256, name=f"{entry.name}@{entry.version}")


def _exported(model: ResolvedModel, kind: Task | None, images: list[Pixels]) -> tuple[bytes, Compared, str]:
    from winnow_workers.detectors.onnx_export import exported_detector, exports_boxes
    from winnow_workers.models.onnx_export import checked
    from winnow_workers.models.onnx_export import export as exported

    if kind is None and exports_boxes(model):
        return *exported_detector(model, images), "detect"
    form = open_form(model, kind)
    made = exported(form, where=model.name, parent=model.name)
    return *checked(form, made, images, where=model.name), form.kind


def _images(folder: Path | None) -> list[Pixels]:
    return sample_images(SAMPLES) if folder is None else read_images(folder, most=MOST_IMAGES)


def _said(found: Compared) -> str:
    return f"agreement {found.agreement:.4f} and outputs within {found.max_abs_difference:.2g} on {found.images} images"
