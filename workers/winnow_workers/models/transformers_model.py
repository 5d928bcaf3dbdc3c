"""How does a pinned transformers folder become a network? From local files only, strictly, without anybody's code.

An operator writes, in `open`:

    opened = open_transformers(task.model, "detect", device=device)
    opened.module          # in evaluation mode, on the device; call it with pixel_values=images_nchw
    opened.preprocessing   # None where preprocessor_config.json says what Preprocessing cannot; ask the task then
    opened.labels          # of config.json's id2label, in the order of the outputs
    opened.folder          # for a tokenizer: AutoTokenizer.from_pretrained(folder, local_files_only=True)
"""

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from winnow_storage.errors import ModelError
from winnow_workers.models.folder import local_folder, read_config
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.reference import ResolvedModel

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["classify", "detect", "segment", "instances", "embed"]
_CLASSES: Mapping[Kind, str] = {
    "classify": "AutoModelForImageClassification",
    "detect": "AutoModelForObjectDetection",
    "segment": "AutoModelForSemanticSegmentation",
    "instances": "AutoModelForInstanceSegmentation",
    "embed": "AutoModel",  # CLIP and SigLIP pairs too
}
_PROJECTED = "CLIPVisionModelWithProjection"


# buffers that some versions wrote and others compute, and counters that inference does not use
_COMPUTED = (
    "position_ids", "relative_position_index", "relative_coords_table", "inv_freq", "num_batches_tracked", "attn_mask"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TransformersModel:
    """A transformers network with what its folder says of its input and outputs."""

    module: "nn.Module"
    preprocessing: Preprocessing | None
    labels: tuple[str, ...]
    folder: Path


def open_transformers(model: ResolvedModel, kind: Kind, *, device: str) -> TransformersModel:
    """Load a pinned folder as the kind of model that an operator needs; every name and shape must fit.

    Raises:
        ModelError: another digest, a configuration that is not of this kind, weights that do not fit.
        StoreError: the store cannot be reached or refuses.
    """
    folder = local_folder(model)
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    from safetensors import SafetensorError

    try:
        with quiet_import():
            loader = getattr(importlib.import_module("transformers"), _class_of(folder, kind))
            module, report = loader.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are refused below, all at once
                output_loading_info=True,
            )
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"{model.name} cannot be opened to {kind}: {error}", hint="check config.json and model.safetensors"
        ) from error
    report = _without_known(module, report)
    _check_fit(_without_heads(module, report) if kind == "embed" else report, model.name)
    config = _config(folder / "config.json")
    labels = () if kind == "embed" else labels_of_config(config)
    return TransformersModel(module.eval().to(device), read_preprocessing(folder), labels, folder)


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Transformers imports torchao where it is installed, whose source has escapes that Python deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def labels_of_config(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of `id2label` by number; empty where there are none, or where a number is missing."""
    named = config.get("id2label")
    if not isinstance(named, dict) or set(named) != {str(number) for number in range(len(named))}:
        return ()
    return tuple(str(named[str(number)]) for number in range(len(named)))


def read_preprocessing(folder: Path) -> Preprocessing | None:
    """What preprocessor_config.json says, None where there is none or Preprocessing cannot say the same.

    The filter (`resample`) is Winnow's own.
    """
    place = folder / "preprocessor_config.json"
    if not place.exists():
        return None
    said = _config(place)
    size, fit = _sides(said.get("size"), said), "stretch"
    if isinstance(size, dict) and "shortest_edge" in size and said.get("do_center_crop", "crop_size" in said):
        crop, fit = _sides(said.get("crop_size")), "crop"
        if not isinstance(crop, dict) or {size["shortest_edge"]} != set(crop.values()):
            return None
        size = crop
    scaled = abs(float(said.get("rescale_factor", 1 / 255)) - 1 / 255) < 1e-6 and said.get("do_rescale", True)
    if not isinstance(size, dict) or set(size) != {"height", "width"} or not said.get("do_resize", True) or not scaled:
        return None
    if (said.get("do_center_crop") and fit == "stretch") or said.get("do_pad") or said.get("do_flip_channel_order"):
        return None
    plain = not said.get("do_normalize", True)
    try:
        return Preprocessing.model_validate(
            {
                "height_px": size["height"],
                "width_px": size["width"],
                "fit": fit,
                "mean": (0.0, 0.0, 0.0) if plain else said.get("image_mean"),
                "std": (1.0, 1.0, 1.0) if plain else said.get("image_std"),
            }
        )
    except ValidationError:
        return None


def _sides(size: Any, said: Mapping[str, Any] | None = None) -> Any:
    """A size as newer processors write it; older ones wrote a number: the shorter side where a crop follows."""
    if not isinstance(size, int):
        return size
    if said is not None and ("crop_pct" in said or said.get("do_center_crop", "crop_size" in said)):
        return {"shortest_edge": size}
    return {"height": size, "width": size}


def _config(place: Path) -> dict[str, Any]:
    return read_config(place.read_bytes(), where=str(place))


def _class_of(folder: Path, kind: Kind) -> str:
    named = _config(folder / "config.json").get("architectures") or ()
    # a tower with the projection into the space that texts share; AutoModel would drop that
    return _PROJECTED if kind == "embed" and list(named) == [_PROJECTED] else _CLASSES[kind]


def _without_heads(module: "nn.Module", report: Mapping[str, Any]) -> dict[str, Any]:
    """The report of a body that was loaded from a whole model: other heads are too much, a pooler may be missing.

    A pooler that was never trained is taken off.
    """
    parts = {name for name, _ in module.named_children()} | {str(getattr(module, "base_model_prefix", ""))}
    missing = {str(name) for name in report["missing_keys"]}
    if missing and all(name.startswith("pooler.") for name in missing):
        module.register_module("pooler", None)
        missing = set()
    unexpected = {name for name in report["unexpected_keys"] if str(name).partition(".")[0] in parts}
    return {**report, "missing_keys": missing, "unexpected_keys": unexpected}


def _without_known(module: "nn.Module", report: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers reports, without second copies of tied weights, and buffers that are computed anew.

    What is missing because it is tied, transformers leaves out of its report itself.
    """
    tied = getattr(module, "all_tied_weights_keys", None)
    copies = {str(one) for pair in tied.items() for one in pair} if isinstance(tied, Mapping) else set()
    unexpected = {str(name) for name in report["unexpected_keys"]} - copies
    missing = {str(name) for name in report["missing_keys"]}
    return {
        **report,
        "unexpected_keys": {name for name in unexpected if not name.endswith(_COMPUTED)},
        "missing_keys": {name for name in missing if not name.endswith("num_batches_tracked")},
    }


def _check_fit(report: Mapping[str, Any], name: str) -> None:
    problems = [
        f"{title} {', '.join(str(one) for one in sorted(report[key], key=str)[:5])}"
        for title, key in (
            ("missing:", "missing_keys"),
            ("unexpected:", "unexpected_keys"),
            ("wrong shapes:", "mismatched_keys"),
        )
        if report.get(key)
    ]
    if problems:
        raise ModelError(
            f"the weights do not fit {name}; " + "; ".join(problems), hint="config.json and the weights must match"
        )
