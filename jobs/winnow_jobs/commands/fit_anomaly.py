"""`winnow models fit-anomaly`: an anomaly detector from a folder of normal images, into the registry."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from winnow_jobs.commands.models import RegistryUri, open_registry, record_of
from winnow_jobs.commands.options import AsJson, split
from winnow_jobs.render import Screen
from winnow_jobs.words import counted
from winnow_storage.errors import UsageError
from winnow_workers.decode import DecodeLimits, decode
from winnow_workers.models.anomaly_fit import AnomalyFit, FittedDetector, fit_detector
from winnow_workers.models.architectures import check_architecture
from winnow_workers.models.conformal import least_false_alarms
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import PixelsHWC
from winnow_workers.signals import ItemSignal

_DEFAULT_BACKBONE = "builtin/patch_features"


class Method(StrEnum):
    """What turns features into distances."""

    PATCHCORE = "patchcore"
    PADIM = "padim"


def fit_anomaly(
    name: Annotated[str, typer.Argument(help="The name it gets, such as defect.", show_default=False)],
    *,
    images: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Normal images only, in any folders below.", show_default=False)
    ],
    method: Annotated[
        Method, typer.Option(help="patchcore: things may stand anywhere. padim: always at the same place.")
    ] = Method.PATCHCORE,
    backbone: Annotated[
        str, typer.Option(help="torchvision/NAME, timm/NAME, transformers/FOLDER or builtin/patch_features.")
    ] = _DEFAULT_BACKBONE,
    weights: Annotated[
        str | None,
        typer.Option(help="pretrained, a weights file, or random:SEED (the builtin's default).", show_default=False),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Whose features: layer2,layer3 (torchvision), 1,2 (timm), -2.", show_default=False),
    ] = None,
    side: Annotated[
        int | None, typer.Option(min=16, max=4096, help="Input side in pixels; the backbone's own.", show_default=False)
    ] = None,
    false_alarms: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Share of normal images above the threshold.")
    ] = 0.01,
    held_out: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Share of the images for the threshold and p-values.")
    ] = 0.3,
    bank: Annotated[int, typer.Option(min=1, max=50_000, help="Patches that patchcore remembers.")] = 2000,
    features: Annotated[int, typer.Option(min=1, max=1000, help="Channels that padim looks at.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the choice of patches and channels.")] = 0,
    stage: Annotated[
        str | None, typer.Option(help="Promote it to this stage at once, such as prod.", show_default=False)
    ] = None,
    registry: RegistryUri = None,
    as_json: AsJson = False,
) -> None:
    """Fit an anomaly detector on normal images and register it as the next version of NAME.

    Part of the images is held out: their distances give the threshold and, in every row, a p-value, the share of normal
    images that are at least as far.
    """
    screen = Screen(as_json=as_json)
    requested = _weights(backbone, weights)
    model = resolve_model(backbone, requested, registry=open_registry(registry), base=Path.cwd())
    paths, refused = _readable(images)
    for path, reason in refused[:5]:
        screen.note(f"left out {path}: {reason}", warning=True)
    if len(refused) > 5:
        screen.note(f"left out {len(refused) - 5} more", warning=True)
    fit = AnomalyFit(
        method=method.value,
        layers=tuple(split(layers)),
        side_px=side,
        false_alarms=false_alarms,
        held_out=held_out,
        bank=bank,
        features=features,
        seed=seed,
    )
    detector = fit_detector(model, len(paths), lambda number, side_px: _pixels(paths[number], side_px), fit)
    entry = (here := open_registry(registry)).add(name, detector.data, detector.card.model_dump(mode="json"))
    if stage is not None:
        here.promote(name, entry.version, stage)
        entry = here.resolve(f"{name}@{entry.version}")
    if not screen.record(record_of(entry) | _said(detector, len(paths), len(refused))):
        _tell(screen, f"models/{entry.name}@{entry.version}", detector, len(paths), fit)
        if model.weights.kind == "random":
            screen.note(
                "the backbone is random: a trained one (--backbone timm/resnet18 --weights pretrained) sees more"
            )


def _weights(backbone: str, said: str | None) -> Any:
    if backbone.startswith(("transformers/", "models/")):
        if said is not None:
            raise UsageError(f"{backbone} brings its weights", hint="remove --weights")
        return None
    if said is None and backbone.startswith("builtin/"):
        return {"random": 0}
    if said is None:
        check_architecture(backbone)  # a wrong name is said first
        raise UsageError(
            f"{backbone} names an architecture, but not where its weights come from",
            hint="add --weights FILE, --weights pretrained (downloads them), or --weights random:0",
        )
    if said.startswith("random:"):
        seed = said.removeprefix("random:")
        if not seed.isdecimal():
            raise UsageError(f"--weights {said}: {seed!r} is no seed", hint="write random:0")
        return {"random": int(seed)}
    return said if said == "pretrained" else {"uri": said}


def _readable(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The images below a folder that can be decoded, sorted, and the files that cannot, each with the reason."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="name a folder of images with --images")
    paths: list[Path] = []
    refused: list[tuple[Path, str]] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        try:
            _pixels(path)
        except ItemSignal as signal:
            refused.append((path, signal.reason))
        except OSError as error:
            refused.append((path, str(error.strerror)))
        else:
            paths.append(path)
    if not paths:
        raise UsageError(f"{folder} holds no image that can be read", hint="name a folder of images with --images")
    return paths, refused


def read_images(folder: Path, *, most: int) -> list[PixelsHWC]:
    """The first images below a folder, in order of their names.

    Raises:
        UsageError: it is no folder, or holds none that can be read.
    """
    return [_pixels(path) for path in _readable(folder)[0][:most]]


def _pixels(path: Path, side_px: int | None = None) -> PixelsHWC:
    """As a run with this task alone decodes it."""
    return decode(path.read_bytes(), needed_side_px=side_px, limits=DecodeLimits()).pixels


def _said(detector: FittedDetector, images: int, refused: int) -> dict[str, Any]:
    return {
        "images": images,
        "left_out": refused,
        "held_out": len(detector.held_out),
        "threshold": detector.card.extra["threshold"],
        "false_alarms": detector.card.extra["false_alarms"],
    }


def _tell(screen: Screen, named: str, detector: FittedDetector, images: int, fit: AnomalyFit) -> None:
    count = len(detector.held_out)
    screen.say(f"{named}: {fit.method} on {counted(images - count, 'normal image')}, {count} held out")
    screen.say(f"threshold {detector.card.extra['threshold']:g}, the held-out reach from {detector.held_out[0]:g}")
    if fit.false_alarms < least_false_alarms(count):
        screen.note(
            f"{count} held-out images promise no fewer false alarms than {least_false_alarms(count):.3g}; "
            f"for {fit.false_alarms:g} hold out {round(1 / fit.false_alarms) - 1}",
            warning=True,
        )
    screen.say(f"  - {{name: defect, operator: anomaly, model: {named}}}")
