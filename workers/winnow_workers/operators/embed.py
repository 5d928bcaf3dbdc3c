"""Where does an image lie among others? One vector per image: a network's pooled features, or a plain fingerprint."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BeforeValidator, Field, model_validator

from winnow_storage.errors import ModelError
from winnow_storage.schemas import prediction_type
from winnow_storage.vectors import has_vectors
from winnow_workers.models import fingerprint
from winnow_workers.models.architectures import default_preprocessing
from winnow_workers.models.build import open_network
from winnow_workers.models.features import pooled_features
from winnow_workers.models.fixed_batch import FixedBatch
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.precision import TorchParams, Wanted, open_batch, precision_id
from winnow_workers.models.preprocess import needed_side_px, preproc_id
from winnow_workers.models.resolve import FINGERPRINT
from winnow_workers.models.transformers_model import open_transformers
from winnow_workers.operator import Operator, Pending, Prediction, View

if TYPE_CHECKING:
    from torch import nn

    from winnow_workers.models.pooling import Wish

_NORMALIZE = {"l2": True, "none": False}
_GEM_POWER = 3.0  # as in Radenovic et al., 2018


def _as_bool(value: object) -> object:
    return _NORMALIZE.get(value, value) if isinstance(value, str) else value


class EmbedParams(TorchParams):
    """`pooling`: how the features of an image's parts become one vector (docs/operators.md, embed).

    `normalize`: true or l2 gives vectors of length one, false or none the model's own. `input`: what the model expects,
    where its weights do not say it.
    """

    dtype: Literal["float16", "float32"] = "float16"
    normalize: Annotated[bool, BeforeValidator(_as_bool)] = True
    input: Preprocessing | None = None
    # left out of what a task's digest is made of at their defaults: tasks of before they existed keep theirs
    pooling: Literal["model", "cls", "mean", "mean+cls", "gem", "map"] = Field(
        default="model", exclude_if=lambda value: value == "model"
    )
    gem_power: float = Field(default=_GEM_POWER, ge=1.0, le=100.0, exclude_if=lambda value: value == _GEM_POWER)

    @model_validator(mode="after")
    def _power_of_gem(self) -> "EmbedParams":
        if self.gem_power != _GEM_POWER and self.pooling != "gem":
            raise ValueError("gem_power is for pooling: gem only: remove it, or write pooling: gem")
        return self


class EmbedOperator(Operator[EmbedParams]):
    """Features of any torchvision, timm, transformers or builtin network; `builtin/fingerprint` needs no weights.

    It makes no claim that could be right or wrong, so there is no score.
    """

    params_type = EmbedParams

    def open(self) -> None:
        """Load the network, take its head off, and see how long its vectors are."""
        self._input: Preprocessing | None = None
        self._batch: FixedBatch | None = None
        if self.model.architecture == FINGERPRINT:
            self._refuse_network_keys()
            self._length = fingerprint.LENGTH
            return
        from winnow_workers.models.pooling import Wish

        wish = Wish(self.params.pooling, self.params.gem_power)
        features, self._input = self._from_folder(wish) if self.model.weights.kind == "folder" else self._built(wish)
        wanted = Wanted(self.params.precision, self._input, "direction", self.model, self.threads, self.images)
        self._batch = open_batch(features, self.device, wanted)
        try:
            shape = tuple(self._batch(self._batch.inputs([np.zeros((1, 1, 3), np.uint8)]))[0].shape)
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            raise ModelError(
                f"{self.model.name} cannot take {self._input.width_px} x {self._input.height_px} px images: {error}",
                hint="write the size that it was made for in the task: input: {height_px: ..., width_px: ...}",
            ) from error
        if len(shape) != 1:
            raise ModelError(
                f"{self.model.name} gives features of shape {shape}, not one vector per image",
                hint="name a classifier's or an embedder's architecture",
            )
        self._length = shape[0]

    def _refuse_network_keys(self) -> None:
        for key, default in (("precision", "fp32"), ("pooling", "model")):
            value = getattr(self.params, key)
            if value not in (default, "auto"):
                raise ModelError(f"{FINGERPRINT} has no network, so {key}: {value} means nothing", hint=f"remove {key}")

    def _built(self, wish: "Wish") -> "tuple[nn.Module, Preprocessing]":
        network = open_network(self.model, device=self.device, n_labels=None)
        card = network.card
        given = self.params.input or (card.preprocessing if card else None)
        features = pooled_features(network.module, network.architecture, wish)
        return features, given or default_preprocessing(network.architecture)

    def _from_folder(self, wish: "Wish") -> "tuple[nn.Module, Preprocessing]":
        from winnow_workers.models.transformers_features import TransformersFeatures

        opened = open_transformers(self.model, "embed", device=self.device)
        given = self.params.input or opened.preprocessing
        if given is None:
            raise ModelError(
                f"{self.model.name}: its preprocessor_config.json is missing, or says what cannot be done here",
                hint="write what the model expects in the task: input: {height_px: ..., width_px: ..., fit: crop, "
                "mean: [...], std: [...]}",
            )
        return TransformersFeatures(opened.module, wish, self.model.name).eval(), given

    @property
    def preproc(self) -> str:
        """The id of the input's preprocessing."""
        if self._input is None or self._batch is None:
            return "fingerprint-1"
        return precision_id(preproc_id(self._input), self._batch)

    @property
    def needed_side_px(self) -> int | None:
        """The input's longer side."""
        return fingerprint.SIDE_PX if self._input is None else needed_side_px(self._input)

    @property
    def batch_size(self) -> int:
        """The fixed batch; any number for the fingerprint."""
        return 32 if self._batch is None else self._batch.at_once

    def fields(self) -> list[pa.Field]:
        """The vector."""
        value = pa.float16() if self.params.dtype == "float16" else pa.float32()
        return [pa.field("vector", pa.list_(value, self._length))]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        """One vector per view."""
        if self._batch is None:
            return [self._predict(fingerprint.fingerprint(view.pixels)) for view in views]
        return self.begin(views).collect()

    def begin(self, views: Sequence[View]) -> Pending:
        """The same, later."""
        if self._batch is None:
            return super().begin(views)
        answers = self._batch.begin(self._batch.inputs([view.pixels for view in views]))
        return Pending(lambda: [self._predict(output.numpy()) for output in answers.collect()], answers.held_bytes)

    def _predict(self, vector: npt.NDArray[np.float32]) -> Prediction:
        return Prediction(fields={"vector": self._finish(vector)})

    def _finish(self, vector: npt.NDArray[np.float32]) -> npt.NDArray[np.floating[npt.NBitBase]]:
        wide = vector.astype(np.float64)
        if not np.isfinite(wide).all():
            raise ArithmeticError("the model's features are not finite")
        length = float(np.linalg.norm(wide))
        if self.params.normalize and length > 0:
            wide = wide / length
        kind = np.float16 if self.params.dtype == "float16" else np.float32
        if np.abs(wide).max(initial=0.0) > np.finfo(kind).max:
            raise ArithmeticError(f"the model's features do not fit {kind.__name__}; write dtype: float32")
        return wide.astype(kind)


def check_vectors(operator: Operator[Any]) -> None:
    """Make sure that what people answer as an embedding makes vectors: they see neighbours, found by these; it is open.

    Raises:
        ModelError: it makes none, or not all of one length.
    """
    if operator.reviewed_as == "embed" and not has_vectors(prediction_type(operator.fields())):
        raise ModelError(
            f"{type(operator).__name__} is reviewed_as embed, and has no field vector, a list of floats of one length: "
            "people see neighbours, which are found by it",
            hint="give it that field (docs/operators.md, embed), or take its reviewed_as away",
        )
