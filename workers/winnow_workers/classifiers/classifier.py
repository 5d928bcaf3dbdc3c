"""What is a classifier of any library? Logits per label in fixed batches, from views, and what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from winnow_workers.classifiers.image_input import ImageInput
from winnow_workers.classifiers.prompts import Prompts
from winnow_workers.classifiers.readings import Link
from winnow_workers.models.fixed_batch import Answers, FixedBatch
from winnow_workers.models.model_file import Calibrator, Preprocessing
from winnow_workers.models.precision import Precision, precision_id
from winnow_workers.models.reference import ResolvedModel

if TYPE_CHECKING:
    from winnow_workers.operator import View


@dataclass(frozen=True, slots=True)
class Asked:
    """What a task wants of its classifier; empty or None where the model itself decides."""

    model: ResolvedModel
    labels: tuple[str, ...]
    input: Preprocessing | None
    prompts: Prompts | None
    precision: Precision
    device: str
    threads: int = 1
    images: int = 0


@dataclass(frozen=True, slots=True)
class Classifier:
    """A network that is open. `says_several`: its folder says that it was trained to give several labels."""

    batch: FixedBatch
    input: ImageInput
    labels: tuple[str, ...]
    link: Link = "softmax"
    calibrator: Calibrator | None = None
    says_several: bool = False
    is_comparing: bool = False  # its logits only compare labels with each other: no sigmoid of one means anything

    @property
    def preproc(self) -> str:
        """The id of the input."""
        return precision_id(self.input.id, self.batch)

    def begin(self, views: "Sequence[View]") -> Answers:
        """Logits (labels,) per view, later."""
        return self.batch.begin(self.input.inputs(self.batch, [view.pixels for view in views]))
