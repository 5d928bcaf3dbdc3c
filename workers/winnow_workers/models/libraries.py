"""How are torchvision, timm and smp reached without paying for what is not used? Lightly, answers remembered."""

import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from winnow_workers.models.cache import names_folder

_REVISION = 2  # raised when `names` asks the libraries for other models than before
_PACKAGES = {"smp": "segmentation-models-pytorch"}
_COMPILER = ("torch._dynamo", "torch._dynamo.utils")


def torchvision() -> ModuleType:
    """The module `torchvision`, imported without torch's compiler, which takes as long as torch itself (1.4 s).

    torchvision 0.26 imports it for one question that it asks when a detector runs; it is answered then.
    """
    if "torchvision" in sys.modules or _COMPILER[0] in sys.modules:
        return importlib.import_module("torchvision")
    import torch  # noqa: F401  before the stand-ins, so that it meets none of them

    parent, utils = (ModuleType(name) for name in _COMPILER)
    utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update(zip(_COMPILER, (parent, utils), strict=True))
    try:
        return importlib.import_module("torchvision")
    finally:
        for name in _COMPILER:
            del sys.modules[name]


def timm() -> ModuleType:
    """The module `timm`, with torchvision imported as above."""
    torchvision()
    return importlib.import_module("timm")


def smp() -> ModuleType:
    """The module `segmentation_models_pytorch`, with torchvision imported as above."""
    torchvision()
    return importlib.import_module("segmentation_models_pytorch")


def names(library: str) -> list[str]:
    """The models of "torchvision" (classifiers, segmenters, detectors) "timm" or "smp", sorted.

    They are remembered, so that a spec is checked without the library.
    """
    return [str(name) for name in remembered(library, str(_REVISION), lambda: _ask(library))]


def remembered(library: str, what: str, ask: Callable[[], Any]) -> Any:
    """What `ask` gives, as JSON, remembered for the library's installed version on this machine."""
    place = names_folder() / f"{library}-{version(_PACKAGES.get(library, library))}-{what}.json"
    try:
        known = json.loads(place.read_bytes())
    except (OSError, ValueError):
        known = ask()
        _remember(place, known)
    return known


def _ask(library: str) -> list[str]:
    if library == "timm":
        return sorted(timm().list_models())
    if library == "smp":
        return sorted(smp().MODEL_ARCHITECTURES_MAPPING)
    models = torchvision().models
    modules = (models, models.segmentation, models.detection)
    return sorted(name for module in modules for name in models.list_models(module=module))


def _remember(place: Path, known: Any) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, prefix=".part-", delete=False) as file:
            json.dump(known, file)
        Path(file.name).replace(place)
    except OSError:
        return  # they are asked for each time


def _is_compile_supported(device: Any) -> Any:
    return importlib.import_module(_COMPILER[1]).is_compile_supported(device)
