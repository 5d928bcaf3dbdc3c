"""How do two forms of one model compare? Their raw outputs on the same images, as an operator's network gives them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from winnow_storage.errors import ModelError
from winnow_workers.models.agreement import Compares, agreements, overall
from winnow_workers.models.architectures import is_detector
from winnow_workers.models.build import Network, open_network
from winnow_workers.models.check import is_anomaly_detector
from winnow_workers.models.features import pooled_features
from winnow_workers.models.fixed_batch import FixedBatch
from winnow_workers.models.load import cached, fetch
from winnow_workers.models.model_file import ModelCard, Preprocessing, read_card
from winnow_workers.models.onnx_file import is_onnx
from winnow_workers.models.precision import TorchParams, Wanted, open_batch
from winnow_workers.models.published import usual_input
from winnow_workers.models.reference import ResolvedModel, Weights

if TYPE_CHECKING:
    from torch import nn

Task = Literal["classify", "segment", "embed"]
_KINDS: tuple[Task, ...] = ("classify", "segment", "embed")
# what to do with a model that is neither exported nor quantised
_INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        "detect": "torchvision detectors and DETRs are exported (winnow models export REF --onnx FILE), none is "
        "quantised",
        "instances": "run it from its safetensors: no ONNX layout here holds masks",
        "anomaly": "run it from its safetensors; fit another one on a smaller backbone if it is too slow",
    }
)
Pixels = npt.NDArray[np.uint8]
Outputs = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OpenForm:
    """A model as an operator of that kind runs it, on the CPU."""

    batch: FixedBatch
    module: "nn.Module"
    card: ModelCard
    input: Preprocessing
    kind: Task

    def outputs(self, images: Sequence[Pixels]) -> Outputs:
        """(images, channels, ...) of its raw answers."""
        return np.stack([one.numpy() for one in self.batch(self.batch.inputs(images))])


@dataclass(frozen=True, slots=True)
class Compared:
    """`agreement` in [0, 1] (models.agreement), `max_abs_difference` of the raw outputs."""

    images: int
    agreement: float
    max_abs_difference: float
    largest_output: float


def file_model(uri: str, sha256: str, *, name: str) -> ResolvedModel:
    """A pinned file as a model."""
    return ResolvedModel(
        name=name, architecture=None, weights=Weights(kind="file", uri=uri, sha256=sha256), digest=sha256
    )


def folder_model(uri: str, sha256: str, *, name: str) -> ResolvedModel:
    """A pinned folder as a model."""
    return ResolvedModel(
        name=name, architecture=None, weights=Weights(kind="folder", uri=uri, sha256=sha256), digest=sha256
    )


def open_form(model: ResolvedModel, kind: Task | None) -> OpenForm:
    """Open a model file, or a folder of the registry, as the kind that is asked for, else that of its card.

    A file whose card names none is opened as what its outputs look like.

    Raises:
        ModelError: it cannot be opened, or is of another kind.
    """
    if model.weights.kind == "folder":
        from winnow_workers.models.folder_form import open_folder_form  # which opens forms of this file

        return open_folder_form(model, kind)
    if not is_onnx(model):  # before a network is built around what may hold more than one
        check_kind(card_alone(model), model.name)
    network = open_network(model, device="cpu", n_labels=None)
    card = network.card
    if card is None:
        raise ModelError(f"{model.name} has no card", hint="register it with one: winnow models add --card card.yaml")
    check_kind(card, model.name)
    preprocessing = card.preprocessing or usual_input(network.architecture, card.arguments)
    kind = _settle_kind(network, card, kind, preprocessing)
    module = pooled_features(network.module, network.architecture) if kind == "embed" else network.module
    compares: Compares = "direction" if kind == "embed" else "choice"
    batch = open_batch(module, "cpu", Wanted(TorchParams().precision, preprocessing, compares, model))
    return OpenForm(batch, module, card, preprocessing, kind)


def card_alone(model: ResolvedModel) -> ModelCard | None:
    """The card of a model file whose tensors are not read.

    Raises:
        ModelError, StoreError: it cannot be read.
    """
    weights = model.weights
    where = weights.uri or model.name
    return read_card(cached(weights.sha256 or "", lambda: fetch(weights), where=where), where=where)


def check_kind(card: ModelCard | None, name: str) -> None:
    """Make sure that a model is of a kind that has other forms.

    Raises:
        ModelError: it is of another one; says what to do instead.
    """
    if card is None or card.kind in _KINDS:
        return
    kind = card.kind
    if is_anomaly_detector(card):
        kind = "anomaly"
    elif kind is None and (is_detector(card.architecture) or "layout" in card.extra):
        kind = "instances" if card.architecture.startswith("torchvision/maskrcnn") else "detect"
    if kind is not None:
        raise ModelError(
            f"{name} is a model of the kind {kind} ({card.architecture}), which has no such form here",
            hint=_INSTEAD.get(kind, "run it as it is"),
        )


def _settle_kind(network: Network, card: ModelCard, asked: Task | None, preprocessing: Preprocessing) -> Task:
    if asked is not None or card.kind in _KINDS:
        return asked or card.kind  # type: ignore[return-value]
    zeros = FixedBatch(network.module, "cpu", preprocessing)
    shape = tuple(zeros(zeros.inputs([np.zeros((1, 1, 3), np.uint8)]))[0].shape)
    if len(shape) == 3:
        return "segment"
    return "classify" if card.labels else "embed"


def compare(reference: OpenForm, other: OpenForm, images: Sequence[Pixels]) -> Compared:
    """How alike two forms answer, batch by batch.

    Raises:
        ModelError: their outputs are of different shapes.
    """
    compares: Compares = "direction" if reference.kind == "embed" else "choice"
    each: list[npt.NDArray[np.floating[Any]]] = []
    difference = largest = 0.0
    for start in range(0, len(images), reference.batch.size):
        part = images[start : start + reference.batch.size]
        ours, theirs = reference.outputs(part), other.outputs(part)
        try:
            each.append(agreements(ours, theirs, compares))
        except ValueError as error:
            raise ModelError(str(error), hint="the two are not forms of one model") from error
        difference = max(difference, float(np.abs(ours.astype(np.float64) - theirs).max()))
        largest = max(largest, float(np.abs(ours).max()))
    return Compared(len(images), overall(np.concatenate(each), compares), difference, largest)
