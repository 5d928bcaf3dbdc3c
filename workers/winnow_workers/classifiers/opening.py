"""Which classifier does a model mean? A network with a head, of any library, or a pair that is asked in words."""

from typing import TYPE_CHECKING

import numpy as np

from winnow_storage.errors import ModelError
from winnow_workers.classifiers.classifier import Asked, Classifier
from winnow_workers.classifiers.image_input import ImageInput, OwnInput, folder_input
from winnow_workers.models.architectures import default_preprocessing
from winnow_workers.models.build import Network, open_network
from winnow_workers.models.fixed_batch import FixedBatch
from winnow_workers.models.folder import local_folder, read_config
from winnow_workers.models.hub import public_labels
from winnow_workers.models.precision import Wanted, open_batch
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.transformers_model import open_transformers

if TYPE_CHECKING:
    from torch import nn

PAIRS = ("clip", "siglip")
_TWO_TOWERS = (*PAIRS, "siglip2", "align", "altclip", "chinese_clip", "metaclip_2", "blip", "groupvit", "clipseg")


def open_classifier(asked: Asked) -> Classifier:
    """The classifier of a task's model, ready to run.

    Raises:
        ModelError: the model is no classifier, its weights do not fit, its labels are of another number, or there is
            no label that could be asked for.
    """
    family = pair_of(asked.model)
    if family is not None:
        from winnow_workers.classifiers.pair import open_pair

        return open_pair(asked, family)
    if asked.prompts is not None:
        raise ModelError(
            f"{asked.model.name}: prompts: are for a CLIP or SigLIP pair, this model has a head for its labels",
            hint="remove prompts: from the task, or name the folder of a pair",
        )
    return _from_folder(asked) if asked.model.weights.kind == "folder" else _from_library(asked)


def pair_of(model: ResolvedModel) -> str | None:
    """The family of a pair of an image's and a text's tower; None of any other model.

    Raises:
        ModelError: a pair that cannot be asked for labels here.
    """
    if model.weights.kind != "folder":
        return None
    place = local_folder(model) / "config.json"
    config = read_config(place.read_bytes(), where=str(place))
    family = str(config.get("model_type"))
    has_head = any(str(one).endswith("ForImageClassification") for one in config.get("architectures") or ())
    if has_head or family not in _TWO_TOWERS:
        return None
    if family not in PAIRS:
        raise ModelError(
            f"{model.name}: a pair of the kind {family!r} cannot be asked for labels here",
            hint=f"use a folder whose model_type is {' or '.join(PAIRS)}",
        )
    return family


def batch_of(module: "nn.Module", image_input: ImageInput, asked: Asked) -> FixedBatch:
    """The network in its fixed batches."""
    wanted = Wanted(asked.precision, image_input.stand_in, "choice", asked.model, asked.threads, asked.images)
    return open_batch(module, asked.device, wanted)


def _from_library(asked: Asked) -> Classifier:
    network = open_network(asked.model, device=asked.device, n_labels=len(asked.labels) or None)
    card = network.card
    said = asked.input or (card.preprocessing if card else None) or default_preprocessing(network.architecture)
    image_input = OwnInput(said)
    batch = batch_of(network.module, image_input, asked)
    count = _count_outputs(batch, image_input, f"{asked.model.name}: {network.architecture}")
    labels = _library_labels(network, asked, count)
    return Classifier(batch, image_input, labels, calibrator=card.calibrator if card else None)


def _from_folder(asked: Asked) -> Classifier:
    from winnow_workers.models.logits import PlainLogits  # torch costs seconds, and only a task needs it

    opened = open_transformers(asked.model, "classify", device=asked.device)
    image_input = folder_input(opened.folder, asked.input, asked.model.name)
    batch = batch_of(PlainLogits(opened.module), image_input, asked)
    count = _count_outputs(batch, image_input, asked.model.name)
    labels = _checked_labels(asked.labels or opened.labels, asked.model.name, count)
    place = opened.folder / "config.json"
    config = read_config(place.read_bytes(), where=str(place))
    several = config.get("problem_type") == "multi_label_classification"
    return Classifier(batch, image_input, labels, says_several=several)


def _count_outputs(batch: FixedBatch, image_input: ImageInput, what: str) -> int:
    zeros = image_input.inputs(batch, [np.zeros((8, 8, 3), np.uint8)])
    shape = tuple(batch(zeros)[0].shape)
    if len(shape) != 1:
        raise ModelError(f"{what} gives outputs of shape {shape}, a classifier gives logits", hint="name a classifier")
    return shape[0]


def _library_labels(network: Network, asked: Asked, count: int) -> tuple[str, ...]:
    labels: tuple[str, ...] | None = asked.labels or (network.card.labels if network.card else ())
    if not labels and asked.model.weights.kind == "random":
        labels = tuple(str(index) for index in range(count))
    if not labels and asked.model.weights.kind == "pretrained":
        labels = public_labels(network.architecture, count)
    return _checked_labels(labels or (), asked.model.name, count)


def _checked_labels(labels: tuple[str, ...], name: str, count: int) -> tuple[str, ...]:
    if not labels:
        raise ModelError(
            f"{name}: the weights do not say what their {count} labels are",
            hint="add labels: [...] to the task, in the order of the model's outputs",
        )
    if len(labels) != count:
        raise ModelError(
            f"{name}: {len(labels)} labels for a model with {count} outputs",
            hint="give one label per output of the model, in its order",
        )
    return labels
