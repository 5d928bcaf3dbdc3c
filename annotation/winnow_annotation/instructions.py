"""What are people told before they answer? What the spec says of a task, or else what its interface asks of them."""

from winnow_annotation.kinds.catalogue import kind_of
from winnow_annotation.kinds.classify import NONE
from winnow_annotation.label_set import Labels, as_label_set

_ALL = "An image that nobody could judge is skipped; the field below it takes a comment."
_DECIDE = "People's answers about these images differ. Yours decides."
_ASKED = {
    "anomaly": "Say whether the image is normal. If it is not, draw a box around what is wrong.",
    "classify": "Choose the label that fits the image best.",
    "detect": "Every object of these labels gets one box, close around what is seen of it. A faint box is one that the "
    "model nearly found: mark it if it is real.",
    "embed": "The model finds the pictures on the right the most like the image on the left: say of each of them "
    "whether it shows the same. Nobody can say that of a grey field: there is no picture.",
    "ocr": "Every line of text gets a box or polygon, and its text as it is written there.",
    "segment": "Paint over all that is of these labels, and over nothing else.",
}


def instructions(operator: str, labels: Labels = (), *, own: str | None = None, decides: bool = False) -> str:
    """The text (HTML, as Label Studio shows it); `own` is the spec's. `decides`: it is for adjudicators.

    Raises:
        SpecError: people cannot answer this operator.
    """
    kind_of(operator)
    said = own or f"{_asked(operator, labels)} {_ALL}"
    return f"{_DECIDE} {said}" if decides else said


def _asked(operator: str, labels: Labels) -> str:
    given = as_label_set(labels)
    if operator == "classify" and given.parents:
        return "Choose the lowest label of the tree that surely fits."
    if operator == "classify" and given.several:
        return f"Choose every label that fits, or {NONE}."
    return _ASKED[operator]
