"""What is a detector? One model that finds things in views, whatever library it comes from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from winnow_workers.detectors.found import Found
from winnow_workers.detectors.layouts import Layout
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.operator import View


class Search(BaseModel):
    """What is asked of a detector: scores from `floor` on, at most `most` findings per view, masks or none.

    `max_iou` replaces the model's own bound for class-wise non-maximum suppression; `input`, `min_side_px` and
    `max_side_px` its own input size, `labels` the label set of its card.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    floor: float = Field(ge=0.0, le=1.0)
    most: int = Field(ge=1)
    masks: bool = False
    max_iou: float | None = None
    labels: tuple[str, ...] = ()
    input: Preprocessing | None = None
    min_side_px: int | None = None
    max_side_px: int | None = None
    layout: Layout | None = None  # of ONNX files


class Detector(ABC):
    """Finds things in views, each as if it were alone: the company of an image changes nothing."""

    labels: tuple[str, ...]  # by the index that `Found.classes` holds
    max_iou: float  # from here on two boxes of a class are one object

    @property
    @abstractmethod
    def preproc(self) -> str:
        """An id of what is done to pixels before the model."""

    @property
    @abstractmethod
    def needed_side_px(self) -> int:
        """The shortest side that a view needs so that scaling only ever goes down."""

    @property
    def batch_size(self) -> int:
        """How many views are best given at once."""
        return 8

    @abstractmethod
    def find(self, views: Sequence[View]) -> list[Found]:
        """What is in each view, in pixels of its full size, the strongest first."""
