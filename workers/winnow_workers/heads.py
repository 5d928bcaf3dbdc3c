"""What is a head? Class probabilities from a stored vector: a linear map, or a vote of labelled points. Needs no torch.

A head file is a model file like any other, a safetensors file with a card: its `architecture` is head/linear or
head/knn, its `labels` are the classes, its `extra` says of which embedding it takes vectors. Vectors are scaled to
length one before anything else, and so are points, so it makes no difference whether the task that made them did that.

head/linear   weight float32 (classes, dimensions), bias float32 (classes,)
head/knn      points float32 (n, dimensions), point_labels int64 (n,); `k` and `temperature` in the card
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from winnow_storage.errors import ModelError
from winnow_workers.classifiers.readings import softmax
from winnow_workers.models.model_file import CARD_KEY, ModelCard, is_safetensors, read_card

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
LINEAR, KNN = "head/linear", "head/knn"
LEAST = 1e-9  # the probability of a class for which no neighbour speaks
BLOCK_POINTS = 4096  # widened to float64 at once
_DECIMALS = 9  # of cosines: what is as near is a tie, whatever else is in the batch
_TENSORS: Mapping[str, Mapping[str, type[np.generic]]] = {
    LINEAR: {"weight": np.float32, "bias": np.float32},
    KNN: {"points": np.float32, "point_labels": np.int64},
}


class Embedding(BaseModel):
    """Whose vectors a head takes: those of `task`, whose digest is `task_digest`, of so many numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    task_digest: str
    dimensions: int = Field(ge=1, le=65536)


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Logits are weight @ vector + bias."""

    weight: Array  # (classes, dimensions)
    bias: Array  # (classes,)

    def logits(self, units: Doubles) -> Doubles:
        """(n, classes) of vectors (n, dimensions) of length one."""
        found: Doubles = units @ self.weight.astype(np.float64).T + self.bias.astype(np.float64)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The `k` nearest points vote for their classes, each with exp(cosine / temperature) (Wu et al., 2018)."""

    points: Array  # (n, dimensions)
    point_labels: Array  # (n,), places among the head's labels
    k: int
    temperature: float

    def logits(self, units: Doubles, classes: int) -> Doubles:
        """(n, classes): logarithms of the shares of the votes, none of them of less than LEAST."""
        starts = range(0, len(self.points), BLOCK_POINTS)
        cosines = [units @ unit(self.points[start : start + BLOCK_POINTS]).T for start in starts]
        found = np.zeros((len(units), classes))
        for place, row in enumerate(np.concatenate(cosines, axis=1).round(_DECIMALS)):
            found[place] = self._vote(row, classes)
        return found

    def _vote(self, cosines: Doubles, classes: int) -> Doubles:
        reach = np.partition(cosines, len(cosines) - self.k)[len(cosines) - self.k]
        near = np.flatnonzero(cosines >= reach)
        near = near[np.argsort(-cosines[near], kind="stable")][: self.k]  # of ties at the reach the first points
        weights = np.exp((cosines[near] - cosines[near[0]]) / self.temperature)
        votes = np.bincount(self.point_labels[near], weights, minlength=classes)
        found: Doubles = np.log(np.maximum(votes / votes.sum(), LEAST))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The classes, from whose vectors they are told, and by which rule."""

    labels: tuple[str, ...]
    embedding: Embedding
    rule: Linear | Nearest

    def __post_init__(self) -> None:
        """Raises ModelError: the arrays are not those of so many classes and dimensions, or not finite."""
        problems = _problems(self)
        if problems:
            raise ModelError(f"a head cannot be: {'; '.join(problems)}", hint="fit it again")

    @property
    def architecture(self) -> str:
        """As its card says it."""
        return LINEAR if isinstance(self.rule, Linear) else KNN

    def logits(self, vectors: Array) -> Doubles:
        """(n, classes) of vectors (n, dimensions), float16 or float32, of any length.

        Raises:
            ModelError: they are of another width.
            ArithmeticError: one of them is not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.embedding.dimensions:
            raise ModelError(
                f"the head takes vectors of {self.embedding.dimensions} numbers, as {self.embedding.task} made them; "
                f"these are of {vectors.shape[-1]}",
                hint="fit a head on the vectors that the job has now",
            )
        if not np.isfinite(vectors).all():
            raise ArithmeticError("the vector is not finite")
        units = unit(vectors)
        return self.rule.logits(units) if isinstance(self.rule, Linear) else self.rule.logits(units, len(self.labels))

    def scores(self, vectors: Array) -> Doubles:
        """(n, classes) probabilities: the softmax of the logits."""
        return softmax(self.logits(vectors))


def unit(vectors: Array) -> Doubles:
    """The same (n, width) of length one; a vector of length zero stays as it is."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: Doubles = wide / np.where(lengths > 0, lengths, 1.0)
    return scaled


def save_head(
    head: Head,
    *,
    trained_on: str | None = None,
    parent: str | None = None,
    metrics: Mapping[str, float | int | str] | None = None,
) -> bytes:
    """The bytes of a head file; equal heads give equal bytes. What is said beside the head goes into its card."""
    from safetensors.numpy import save

    rule = head.rule
    extra: dict[str, Any] = {"embedding": head.embedding.model_dump()}
    if isinstance(rule, Linear):
        tensors = {"weight": rule.weight, "bias": rule.bias}
    else:
        tensors = {"points": rule.points, "point_labels": rule.point_labels}
        extra |= {"k": rule.k, "temperature": rule.temperature}
    card = ModelCard(
        architecture=head.architecture,
        labels=head.labels,
        kind="head",
        extra=extra,
        trained_on=trained_on,
        parent=parent,
        metrics=metrics or {},
    )
    types = _TENSORS[head.architecture]
    written = {name: np.ascontiguousarray(tensor.astype(types[name])) for name, tensor in sorted(tensors.items())}
    return save(written, metadata={CARD_KEY: card.model_dump_json()})


def load_head(data: bytes, *, where: str = "the file") -> Head:
    """The head in a file's bytes; `where` names it in messages.

    Raises:
        ModelError: it is no head, or what it holds is not what its card says.
    """
    card = read_card(data, where=where) if is_safetensors(data) else None
    if card is None or not is_head(card):
        said = "it has no card" if card is None else f"its card says {card.architecture}"
        raise ModelError(f"{where} is no head: {said}", hint="name a head, or leave vectors: out of the task")
    tensors = _tensors(data, card.architecture, where)
    try:
        embedding = Embedding.model_validate(card.extra.get("embedding"))
    except ValidationError as error:
        raise ModelError(
            f"{where}: its card does not say of which embedding it takes vectors: {error.errors()[0]['msg']}",
            hint="write the file again with save_head",
        ) from error
    try:
        return Head(card.labels, embedding, _rule(tensors, card))
    except ModelError as error:
        raise ModelError(f"{where}: {error.message}", hint=error.hint) from error


def is_head(card: ModelCard) -> bool:
    """Whether a card is that of a head."""
    return card.architecture in _TENSORS


def _rule(tensors: Mapping[str, Array], card: ModelCard) -> Linear | Nearest:
    if card.architecture == LINEAR:
        return Linear(tensors["weight"], tensors["bias"])
    k, temperature = card.extra.get("k"), card.extra.get("temperature")
    if not isinstance(k, int) or isinstance(k, bool) or not isinstance(temperature, int | float):
        raise ModelError("its card lacks k, a whole number, or temperature, a number", hint="fit it again")
    return Nearest(tensors["points"], tensors["point_labels"], k, float(temperature))


def _tensors(data: bytes, architecture: str, where: str) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found: dict[str, Array] = load(data)
    except (SafetensorError, KeyError, ValueError) as error:  # the latter two of types that numpy has not
        raise ModelError(f"{where} cannot be read: {error}", hint="write the file again") from error
    wanted = _TENSORS[architecture]
    if set(found) != set(wanted):
        raise ModelError(
            f"{where}: a {architecture} has the tensors {', '.join(wanted)}; "
            f"this one has {', '.join(sorted(found)) or 'none'}",
            hint="write the file again with save_head",
        )
    for name, kind in wanted.items():
        if found[name].dtype != kind:
            raise ModelError(
                f"{where}: {name} is {found[name].dtype}, it should be {np.dtype(kind)}",
                hint="write the file again with save_head",
            )
    return found


def _problems(head: Head) -> list[str]:
    classes, width = len(head.labels), head.embedding.dimensions
    problems = [] if classes else ["it has no labels"]
    if len(set(head.labels)) < classes or any(not label.strip() for label in head.labels):
        problems.append("its labels are not all different, or one is empty")
    if isinstance(head.rule, Linear):
        shapes = {"weight": (classes, width), "bias": (classes,)}
    else:
        points = head.rule.points.shape[0] if head.rule.points.ndim else 0
        shapes = {"points": (points, width), "point_labels": (points,)}
    for name, shape in shapes.items():
        tensor = getattr(head.rule, name)
        if tensor.shape != shape:
            problems.append(f"{name} has the shape {tensor.shape}, for {classes} labels it is {shape}")
        elif not np.isfinite(tensor).all():
            problems.append(f"{name} is not finite")
    return problems or _problems_of_votes(head)


def _problems_of_votes(head: Head) -> list[str]:
    rule = head.rule
    if isinstance(rule, Linear):
        return []
    problems = []
    if rule.point_labels.size and not 0 <= rule.point_labels.min() <= rule.point_labels.max() < len(head.labels):
        problems.append(f"a point's label is none of the {len(head.labels)}")
    if not 1 <= rule.k <= len(rule.points):
        problems.append(f"k is {rule.k}, of {len(rule.points)} points")
    if not (np.isfinite(rule.temperature) and rule.temperature > 0):
        problems.append(f"temperature is {rule.temperature}, it must be above 0")
    return problems
