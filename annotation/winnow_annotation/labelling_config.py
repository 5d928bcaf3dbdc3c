"""Which Label Studio interface does a task get? The XML template of its operator, filled with its label set."""

from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined

from winnow_annotation.kinds.catalogue import kind_of
from winnow_annotation.kinds.classify import NONE
from winnow_annotation.kinds.embed import NEIGHBOURS
from winnow_annotation.label_set import Labels, LabelSet, as_label_set, tree_of
from winnow_storage.errors import SpecError
from winnow_storage.ids import digest_bytes

# Tableau's ten, in an order that keeps neighbours apart
_COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#17becf",
    "#bcbd22",
    "#7f7f7f",
)
_MANY = 24  # labels: above that they scroll and can be searched, so that the image stays in view
_NEED_LABELS = ("classify", "detect", "segment")


@dataclass(frozen=True, slots=True)
class _Label:
    text: str
    colour: str


def labelling_config(operator: str, labels: Labels = ()) -> str:
    """The XML of a project; equal arguments give equal text.

    Raises:
        SpecError: people cannot answer this operator, or it needs labels and there are none.
    """
    kind_of(operator)
    given = as_label_set(labels)
    if operator in _NEED_LABELS and not given.labels:
        raise SpecError(
            f"a model of the operator {operator!r} without labels cannot be reviewed",
            hint="use a model file whose card names its labels",
        )
    name = f"{operator}{_form(given) if operator == 'classify' else ''}.xml"
    source = (resources.files("winnow_annotation") / "templates" / name).read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    shown = [_Label(text, _COLOURS[number % len(_COLOURS)]) for number, text in enumerate(given.labels)]
    return template.render(
        labels=shown,
        many=len(shown) > _MANY,
        tree=tree_of(given.parents),
        nothing=NONE,
        places=range(1, NEIGHBOURS + 1),
    )


def _form(given: LabelSet) -> str:
    return "_tree" if given.parents else "_several" if given.several else ""


def config_hash(config: str) -> str:
    """What identifies an interface in a label: 16 hex characters."""
    return digest_bytes(config.encode())[:16]
