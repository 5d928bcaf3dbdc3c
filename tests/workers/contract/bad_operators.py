"""Operators that break one rule each: what the contract suite must find, and by which check."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field

from winnow_storage.errors import StoreError
from winnow_workers.operator import Operator, OperatorParams, Pending, Prediction, View


class Params(OperatorParams):
    factor: float = 1.0
    labels: tuple[str, ...] = ()


class Good(Operator[Any]):
    """The mean of an image, and whether it is bright; keeps everything."""

    params_type = Params
    default_model = "builtin/none"

    def open(self) -> None:
        return

    @property
    def preproc(self) -> str:
        return "none"

    def fields(self) -> list[pa.Field]:
        return [pa.field("mean", pa.float32()), pa.field("label", pa.string())]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        return [self.one(view) for view in views]

    def one(self, view: View) -> Prediction:
        if not view.pixels.size:
            raise ValueError("there are no pixels")
        mean = float(view.pixels.mean(dtype=np.float64)) * self.params.factor
        return Prediction({"mean": mean, "label": "bright" if mean > 127 else "dark"}, score=mean, score_kind="mean")


class LooseParams(OperatorParams):
    model_config = ConfigDict(frozen=True, extra="ignore")


class HiddenParams(OperatorParams):
    factor: float = Field(default=1.0, exclude=True)


class Loose(Good):
    params_type = LooseParams

    def one(self, view: View) -> Prediction:
        return Prediction({"mean": 0.0, "label": None})


class Hidden(Good):
    params_type = HiddenParams


class Revision(Good):
    revision = 0


class Unopened(Good):
    def open(self) -> None:
        raise KeyError("layer4.weight")


class Raises(Good):
    def one(self, view: View) -> Prediction:
        if min(view.pixels.shape[:2]) < 2:
            raise ValueError("too small")
        return super().one(view)


class Fewer(Good):
    def run(self, views: Sequence[View]) -> list[Prediction]:
        return super().run(views)[:1]


class NoFields(Good):
    def fields(self) -> list[pa.Field]:
        return ["mean", "label"]


class TakenField(Good):
    def fields(self) -> list[pa.Field]:
        return [pa.field("score", pa.float32()), pa.field("label", pa.string())]

    def one(self, view: View) -> Prediction:
        return Prediction({"score": 1.0, "label": "a"})


class LeftOut(Good):
    def one(self, view: View) -> Prediction:
        said = super().one(view)
        return Prediction({"mean": said.fields["mean"]})


class Unfitting(Good):
    def one(self, view: View) -> Prediction:
        return Prediction({"mean": "a lot", "label": None})


class Huge(Good):
    def one(self, view: View) -> Prediction:
        return Prediction({"mean": 0.0, "label": "x" * 5_000_000})


class NoEmptyBatch(Good):
    def run(self, views: Sequence[View]) -> list[Prediction]:
        np.stack([view.pixels[0, 0] for view in views if view.pixels.size])
        return super().run(views)


class ByNeighbour(Good):
    def run(self, views: Sequence[View]) -> list[Prediction]:
        means = [self.one(view) for view in views]
        most = max((one.score or 0.0 for one in means), default=1.0)
        return [Prediction({**one.fields, "mean": (one.score or 0.0) / most}) for one in means]


class Counting(Good):
    def open(self) -> None:
        self.count = 0

    def one(self, view: View) -> Prediction:
        self.count += 1
        said = super().one(view)
        return Prediction({**said.fields, "mean": float(self.count)})


class OneAtATime(Good):
    def begin(self, views: Sequence[View]) -> Pending:
        self.views = views
        return Pending(lambda: self.run(self.views))

    @property
    def batch_size(self) -> int:
        return 4


class Unseeded(Good):
    def open(self) -> None:
        self.weight = float(np.random.default_rng().normal())

    def one(self, view: View) -> Prediction:
        said = super().one(view)
        return Prediction({**said.fields, "mean": (said.score or 0.0) * self.weight})


class Improbable(Good):
    def one(self, view: View) -> Prediction:
        said = super().one(view)
        return Prediction(said.fields, p_ok=said.score, calibrator="mine")


class Uncalibrated(Good):
    def one(self, view: View) -> Prediction:
        return Prediction(super().one(view).fields, p_ok=0.5)


class Unkind(Good):
    def one(self, view: View) -> Prediction:
        said = super().one(view)
        return Prediction(said.fields, score=said.score)


class Endless(Good):
    def one(self, view: View) -> Prediction:
        return Prediction(super().one(view).fields, score=float("inf"), score_kind="s")


class Wordy(Good):
    def one(self, view: View) -> Prediction:
        return Prediction(super().one(view).fields, score="high", score_kind="s")


class Writes(Good):
    def one(self, view: View) -> Prediction:
        said = super().one(view)
        view.pixels[:] = 0
        return said


class StopsTheRun(Good):
    def one(self, view: View) -> Prediction:
        if not view.pixels.size:
            raise StoreError("there are no pixels")
        return super().one(view)


class Sulks(Good):
    def open(self) -> None:
        self.is_hurt = False

    def one(self, view: View) -> Prediction:
        self.is_hurt |= not view.pixels.size
        said = super().one(view)
        return Prediction({**said.fields, "label": "hurt" if self.is_hurt else "well"})


class OnlyHere(Good):
    """Needs something that its process was given."""

    home = os.getpid()

    def one(self, view: View) -> Prediction:
        said = super().one(view)
        return Prediction({**said.fields, "label": str(self.home)})


class Leaves(Good):
    """Ends any process but the one that imported it first."""

    def open(self) -> None:
        if __name__ != "__main__" and os.environ.get("WINNOW_TEST_HOME") not in (None, str(os.getpid())):
            os._exit(3)


class NoVectors(Good):
    reviewed_as = "embed"


class AnyLength(NoVectors):
    def fields(self) -> list[pa.Field]:
        return [pa.field("vector", pa.list_(pa.float32()))]


class OneLength(NoVectors):
    def fields(self) -> list[pa.Field]:
        return [pa.field("vector", pa.list_(pa.float32(), 4))]


class NoDescription(Good):
    @property
    def preproc(self) -> str:
        return ""

    @property
    def batch_size(self) -> int:
        return 0
