"""Where does an image lie among others? One vector per image: a network's pooled features, or a plain fingerprint."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from winnow_storage.errors import ModelError
from winnow_workers.models import fingerprint
from winnow_workers.models.architectures import default_preprocessing
from winnow_workers.models.build import open_network
from winnow_workers.models.features import pooled_features
from winnow_workers.models.fixed_batch import FixedBatch
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.precision import TorchParams, Wanted, open_batch, precision_id
from winnow_workers.models.preprocess import needed_side_px, preproc_id
from winnow_workers.models.resolve import FINGERPRINT
from winnow_workers.operator import Awaited, Operator, Prediction, View


class EmbedParams(TorchParams):
    """`input`: what the model expects, where its weights do not say it. A normalised vector has length one."""

    dtype: Literal["float16", "float32"] = "float16"
    normalize: bool = True
    input: Preprocessing | None = None


class EmbedOperator(Operator[EmbedParams]):
    """Pooled features of any torchvision, timm or builtin network; `builtin/fingerprint` needs no weights.

    It makes no claim that could be right or wrong, so there is no score.
    """

    params_type = EmbedParams

    def open(self) -> None:
        """Load the network, take its head off, and see how long its vectors are."""
        self._input: Preprocessing | None = None
        self._batch: FixedBatch | None = None
        if self.model.architecture == FINGERPRINT:
            if self.params.precision == "bf16":
                raise ModelError(f"{FINGERPRINT} has no network to run in bfloat16", hint="leave precision out")
            self._length = fingerprint.LENGTH
            return
        network = open_network(self.model, device=self.device, n_labels=None)
        card = network.card
        self._input = (
            self.params.input or (card.preprocessing if card else None) or default_preprocessing(network.architecture)
        )
        wanted = Wanted(self.params.precision, self._input, "direction", self.model, self.threads)
        self._batch = open_batch(pooled_features(network.module, network.architecture), self.device, wanted)
        zeros = self._batch.inputs([np.zeros((1, 1, 3), np.uint8)])
        shape = tuple(self._batch(zeros)[0].shape)
        if len(shape) != 1:
            raise ModelError(
                f"{self.model.name}: {network.architecture} gives features of shape {shape}, not one vector per image",
                hint="name a classifier's or an embedder's architecture",
            )
        self._length = shape[0]

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

    def begin(self, views: Sequence[View]) -> Awaited:
        """The same, later."""
        if self._batch is None:
            return super().begin(views)
        answers = self._batch.begin(self._batch.inputs([view.pixels for view in views]))
        return Awaited(lambda: [self._predict(output.numpy()) for output in answers.collect()], answers.held_bytes)

    def _predict(self, vector: npt.NDArray[np.float32]) -> Prediction:
        return Prediction(fields={"vector": self._finish(vector)})

    def _finish(self, vector: npt.NDArray[np.float32]) -> npt.NDArray[np.floating[npt.NBitBase]]:
        wide = vector.astype(np.float64)
        if not np.isfinite(wide).all():
            raise ArithmeticError("the model's features are not finite")
        length = float(np.linalg.norm(wide))
        if self.params.normalize and length > 0:
            wide = wide / length
        return wide.astype(np.float16 if self.params.dtype == "float16" else np.float32)
