"""Which architectures exist by name, and what input does each expect? Imports a library only when it is asked for."""

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from winnow_storage.errors import ModelError
from winnow_workers.models import libraries
from winnow_workers.models.model_file import Preprocessing

ONNX = "onnx/file"  # of what is known by its file only

# the networks of `nets`, with the input that each was made for
BUILTIN_NETS: Mapping[str, Preprocessing] = MappingProxyType(
    {
        "digit_cnn": Preprocessing(height_px=32, width_px=32, channels=1, mean=(0.5,), std=(0.5,)),
        "small_unet": Preprocessing(height_px=256, width_px=256),
        "patch_features": Preprocessing(height_px=256, width_px=256),
        "small_embedder": Preprocessing(height_px=64, width_px=64),
    }
)


def split(architecture: str) -> tuple[str, str]:
    """The library and the name: "timm/resnet50" gives ("timm", "resnet50")."""
    library, _, name = architecture.partition("/")
    return library, name


def check_architecture(architecture: str) -> None:
    """Make sure that an architecture can be built.

    Raises:
        ModelError: its library has no model of that name; names the nearest ones.
    """
    library, name = split(architecture)
    if architecture == ONNX:
        return
    if library == "builtin":
        known: Sequence[str] = sorted(BUILTIN_NETS)
    elif library == "torchvision":
        known = libraries.names(library)
    elif library == "smp":
        name, known = name.partition("/")[0], libraries.names(library)  # what follows the slash is the encoder
    elif library == "timm":
        name, known = name.partition(".")[0], libraries.names(library)  # what follows the dot are weights
    elif library == "head":
        raise ModelError(
            f"{architecture} is a head: it takes the vectors of another task, not images",
            hint="write vectors: TASK in the task of classify, naming one of operator embed",
        )
    else:
        raise ModelError(
            f"{architecture!r} is no architecture that is known here",
            hint="write torchvision/NAME, timm/NAME, smp/NAME/ENCODER or builtin/NAME",
        )
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        meant = "did you mean " + " or ".join(f"{library}/{one}" for one in near) + "?" if near else None
        raise ModelError(
            f"{library} has no model named {name!r}",
            hint=meant or f"{library} has {len(known)} models, such as {library}/{known[0]}",
        )


def default_preprocessing(architecture: str) -> Preprocessing:
    """What an architecture's input is where neither the task nor the weights' card says it.

    Raises:
        ModelError: it is an ONNX file's own.
    """
    library, name = split(architecture)
    if architecture == ONNX:
        raise ModelError(
            "the ONNX file does not say what is done to pixels before it",
            hint="add input: {height_px: ..., width_px: ..., mean: [...], std: [...]} to the task, or register the "
            "file with a card that says preprocessing: winnow models add NAME FILE --card card.yaml",
        )
    if library == "builtin":
        return BUILTIN_NETS[name]
    if library == "timm":
        config = libraries.timm().get_pretrained_cfg(name)
        if config is not None:
            channels, height, width = config.input_size
            if channels == 3:
                return Preprocessing(
                    height_px=height, width_px=width, fit="crop", mean=tuple(config.mean), std=tuple(config.std)
                )
    elif library == "smp":
        return Preprocessing(height_px=512, width_px=512)
    elif is_segmenter(architecture):
        return Preprocessing(height_px=520, width_px=520)
    return Preprocessing(height_px=224, width_px=224, fit="crop")


def is_segmenter(architecture: str) -> bool:
    """Whether an architecture answers per pixel."""
    library, name = split(architecture)
    if library == "torchvision":
        models = libraries.torchvision().models
        return name in models.list_models(module=models.segmentation)
    return architecture == "builtin/small_unet"


def is_detector(architecture: str) -> bool:
    """Whether an architecture is one of torchvision's detectors, those that draw masks among them."""
    library, name = split(architecture)
    if library != "torchvision":
        return False
    models = libraries.torchvision().models
    return name in models.list_models(module=models.detection)
