"""How does a transformers folder answer before it becomes another form? As its operator runs it, on the CPU."""

from typing import TYPE_CHECKING, cast

from winnow_storage.errors import ModelError
from winnow_workers.classifiers.image_input import plain_input
from winnow_workers.models.agreement import Compares
from winnow_workers.models.folder import local_folder, read_config
from winnow_workers.models.folder_card import folder_card
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
    # those that embed and paint scale images by Winnow's own filter, whatever the folder's is
    given = opened.preprocessing if wanted != "classify" else None
    given = given or plain_input(opened.folder, model.name)
    compares: Compares = "direction" if wanted == "embed" else "choice"
    module = _module(opened, wanted, model.name)
    batch = open_batch(module, "cpu", Wanted(TorchParams().precision, given, compares, model))
    return OpenForm(batch, module, card, given, wanted)


def _module(opened: TransformersModel, kind: Task, name: str) -> "nn.Module":
    from winnow_workers.models.logits import PlainLogits
    from winnow_workers.models.pooling import Wish
    from winnow_workers.models.transformers_features import TransformersFeatures

    if kind == "embed":
        return TransformersFeatures(opened.module, Wish(), name).eval()
    return PlainLogits(opened.module).eval()
