"""What is an operator? The protocol between the pipeline and the code that performs one kind of vision work."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from winnow_workers.models.reference import ResolvedModel

PixelsHWC = npt.NDArray[np.uint8]
Vector = npt.NDArray[Any]  # (width,), float16 or float32
VECTOR_FIELD = "vector"  # of the struct of a task that makes them
NO_PIXELS: PixelsHWC = np.zeros((0, 0, 3), np.uint8)


class OperatorParams(BaseModel):
    """The keys that a task may carry beside name, operator, model and weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def pinned(self, base: Path | None) -> Self:  # noqa: ARG002 - for those that name files
        """The same with what files say in place of their names, relative to `base`, so that all is in the digest.

        Raises:
            SpecError, StoreError: a file cannot be read, or does not say what it should.
        """
        return self


ParamsT = TypeVar("ParamsT", bound=OperatorParams)


@dataclass(frozen=True, slots=True)
class View:
    """One decoded image as a task sees it.

    `pixels` is uint8 RGB, (height, width, 3), upright, sRGB. It may be smaller than the image (scaled decode);
    `width_px` and `height_px` are always those of the upright image at full size, in which boxes and masks are given.
    An operator of vectors sees no pixels, but the `vector` that another task made of the image.
    """

    pixels: PixelsHWC
    width_px: int
    height_px: int
    vector: Vector | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an operator says of one image.

    `score` is what the model says, of kind `score_kind`; `p_ok` the calibrated probability in [0, 1] that the
    prediction passes its task's acceptance test, with the id of the `calibrator` that gave it; both null where none
    is fitted. `fields` holds the operator's own fields, plain Python or numpy values that fit `Operator.fields()`.
    """

    fields: Mapping[str, object]
    score: float | None = None
    score_kind: str | None = None
    p_ok: float | None = None
    calibrator: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """The predictions of a batch that was begun with; `collect` waits for them, and may raise as `run` may.

    Until then they hold `held_bytes` of memory on the host.
    """

    collect: Callable[[], list[Prediction]]
    held_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """A task as an actor receives it: everything that decides its predictions."""

    name: str
    operator: str
    model: ResolvedModel
    params: Mapping[str, object] = field(default_factory=dict)


class Operator(ABC, Generic[ParamsT]):
    """One task's code in one actor process. Built cheaply, opened once, then run on many batches."""

    params_type: ClassVar[type[OperatorParams]]
    revision: ClassVar[int] = 1  # raised when the same model and parameters give other predictions than before
    default_model: ClassVar[str | None] = None  # the model of a task that names none; None: it must name one
    # Which built-in operator's fields its own contain, so that people see and answer its predictions as that one's;
    # None: no other's. A task of it may then have a policy; the answers' label set is the parameter `labels`.
    reviewed_as: ClassVar[str | None] = None

    def __init__(self, params: ParamsT, model: ResolvedModel, device: str) -> None:
        self.params = params
        self.model = model
        self.device = device  # "cpu" or "cuda"
        self.threads = 1  # that it may use beside others on this machine, set before `open`; no part of what it says
        self.images = 0  # of the whole run, set before `open`: with many it pays to look for the fastest batch
        self.vectors_of: str | None = None  # the task whose vectors it is given in place of pixels

    @abstractmethod
    def open(self) -> None:
        """Load the model. Called once, before anything below.

        Raises:
            ModelError: the weights are absent, of another digest or shape, or of an unsafe format.
        """

    @property
    @abstractmethod
    def preproc(self) -> str:
        """An id of what is done to pixels before the model, stable across machines."""

    @property
    def needed_side_px(self) -> int | None:
        """The shortest side that a view must keep at least; None asks for every pixel."""
        return None

    @property
    def batch_size(self) -> int:
        """How many views `run` is given at most."""
        return 16

    @abstractmethod
    def fields(self) -> list[pa.Field]:
        """The operator's own fields of its struct, known once it is open."""

    @abstractmethod
    def run(self, views: Sequence[View]) -> list[Prediction]:
        """One prediction per view, in order. An exception means that the batch or the view cannot be processed."""

    def begin(self, views: Sequence[View]) -> Pending:
        """As `run`, whose predictions are waited for later: the accelerator is given its work now.

        An operator that works on the CPU has nothing to begin with, and does all of it when it is waited for.
        """
        return Pending(lambda: self.run(views))

    def close(self) -> None:
        """Let go of the model."""
        return
