"""How does a transformers folder answer before it becomes another form? As its operator runs it, on the CPU."""

from typing import TYPE_CHECKING, cast

from winnow_storage.errors import ModelError
from winnow_workers.classifiers.image_input import OwnInput, folder_input
from winnow_workers.models.agreement import Compares
from winnow_workers.models.folder import local_folder, read_config
from winnow_workers.models.folder_card import folder_card
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.precision import TorchParams, Wanted, open_batch
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.transformers_model import TransformersModel, open_transformers
from winnow_workers.models.variants import OpenForm, Task, check_kind

if TYPE_CHECKING:
    from torch import nn


def open_folder_form(model: ResolvedModel, kind: Task | None) -> OpenForm:
    """Open a folder of the registry as the kind that is asked for, else that of its card.

    Raises:
        ModelError: it cannot be opened, is of another kind, or its input or its answer is what no card can say.
    """
    place = local_folder(model)
    card = folder_card(place)
    check_kind(card, model.name)
    wanted = kind or cast("Task", card.kind)
    config = read_config((place / "config.json").read_bytes(), where=f"{model.name}/config.json")
    if wanted == "classify" and config.get("problem_type") == "multi_label_classification":
        raise ModelError(
            f"{model.name} says that several labels may hold, which the card of an ONNX file cannot say",
            hint="run the folder as it is, with choose: several",
        )
    opened = open_transformers(model, wanted, device="cpu")
    given = _input(opened, wanted, model.name)
    compares: Compares = "direction" if wanted == "embed" else "choice"
    module = _module(opened, wanted, model.name)
    batch = open_batch(module, "cpu", Wanted(TorchParams().precision, given, compares, model))
    return OpenForm(batch, module, card, given, wanted)


def _input(opened: TransformersModel, kind: Task, name: str) -> Preprocessing:
    said = opened.preprocessing
    if kind == "classify":
        image_input = folder_input(opened.folder, None, name)
        said = image_input.stand_in if isinstance(image_input, OwnInput) else None
    if said is None:
        raise ModelError(
            f"{name}: its own image processor makes its input, in a way that the card of an ONNX file cannot say",
            hint="run the folder as it is, or save it with a processor that stretches to one size, bilinear",
        )
    return said


def _module(opened: TransformersModel, kind: Task, name: str) -> "nn.Module":
    from winnow_workers.models.logits import PlainLogits
    from winnow_workers.models.pooling import Wish
    from winnow_workers.models.transformers_features import TransformersFeatures

    if kind == "embed":
        return TransformersFeatures(opened.module, Wish(), name).eval()
    return PlainLogits(opened.module).eval()
