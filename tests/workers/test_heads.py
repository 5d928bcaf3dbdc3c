"""Heads in memory: what they say of vectors, and what a file must hold to be one."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from winnow_storage.errors import ModelError
from winnow_workers import heads
from winnow_workers.heads import Embedding, Head, Linear, Nearest, load_head, save_head, unit
from winnow_workers.models.check import check_file
from winnow_workers.models.convert import as_model_file
from winnow_workers.models.model_file import CARD_KEY, read_card

LOOK = Embedding(task="look", task_digest="d" * 64, dimensions=6)
LABELS = ("cat", "dog", "owl")


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Vectors (n, 6) of three classes that overlap a little, not of length one, and their classes."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 3, n)
    centres = np.eye(3, 6)
    return ((centres[classes] + random.normal(0, 0.4, (n, 6))) * 7).astype(np.float32), classes


def linear(seed: int = 0) -> Head:
    random = np.random.default_rng(seed)
    rule = Linear(random.normal(0, 2, (3, 6)).astype(np.float32), random.normal(0, 1, 3).astype(np.float32))
    return Head(LABELS, LOOK, rule)


def nearest(n: int = 50, k: int = 5, temperature: float = 0.1) -> Head:
    points, classes = drawn(n, seed=1)
    return Head(LABELS, LOOK, Nearest(points, classes.astype(np.int64), k, temperature))


def test_scores__of_a_linear_head_are_those_of_the_regression_that_it_was_taken_from() -> None:
    vectors, classes = drawn(200)
    fitted = LogisticRegression(C=10).fit(unit(vectors), classes)
    rule = Linear(fitted.coef_.astype(np.float32), fitted.intercept_.astype(np.float32))
    found = Head(LABELS, LOOK, rule).scores(vectors)
    assert np.abs(found - fitted.predict_proba(unit(vectors))).max() < 1e-6
    assert np.allclose(found.sum(axis=1), 1)


def test_scores__of_nearest_points_are_shares_of_weighted_votes() -> None:
    head, (vectors, _) = nearest(), drawn(100)
    assert isinstance(head.rule, Nearest)

    def votes(distances: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(np.exp(-distances / 0.1))

    peer = KNeighborsClassifier(5, weights=votes, metric="cosine", algorithm="brute")
    expected = peer.fit(unit(head.rule.points), head.rule.point_labels).predict_proba(unit(vectors))
    found = head.scores(vectors)
    assert np.abs(found - expected).max() < 1e-6
    assert found.min() > 0  # a class without a vote has a little, so that its logarithm is a number


@pytest.mark.parametrize("head", [linear(), nearest()], ids=["linear", "knn"])
def test_scores__do_not_depend_on_the_batch_or_the_length_of_a_vector(head: Head) -> None:
    vectors, _ = drawn(40)
    whole = head.scores(vectors)
    single = np.concatenate([head.scores(vectors[n : n + 1]) for n in range(40)])
    assert (whole.astype(np.float32) == single.astype(np.float32)).all()
    assert np.abs(head.scores(unit(vectors).astype(np.float32)) - whole).max() < 1e-5
    assert np.abs(head.scores(vectors.astype(np.float16)) - whole).max() < 0.02
    assert head.scores(np.zeros((1, 6), np.float16)).shape == (1, 3)
    assert head.scores(np.zeros((0, 6), np.float16)).shape == (0, 3)


def test_scores__points_in_blocks_are_the_same_points(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = drawn(10)
    whole = nearest().scores(vectors)
    monkeypatch.setattr(heads, "BLOCK_POINTS", 7)
    assert np.abs(nearest().scores(vectors) - whole).max() < 1e-12


def test_scores__of_points_that_are_as_near_the_first_ones_vote() -> None:
    rule = Nearest(np.ones((4, 6), np.float32), np.array([2, 0, 0, 0]), 1, 1.0)
    assert Head(LABELS, LOOK, rule).scores(np.ones((1, 6), np.float32)).argmax() == 2


def test_scores__refuse_what_is_no_vector_of_theirs() -> None:
    with pytest.raises(ModelError, match="takes vectors of 6 numbers, as look made them; these are of 5"):
        linear().scores(np.zeros((2, 5), np.float32))
    with pytest.raises(ArithmeticError, match="not finite"):
        linear().scores(np.full((1, 6), np.nan, np.float32))


@pytest.mark.parametrize("head", [linear(), nearest()], ids=["linear", "knn"])
def test_save_head__what_was_saved_is_loaded(head: Head) -> None:
    data = save_head(head, trained_on="60 labels", metrics={"labels": 60})
    assert data == save_head(head, trained_on="60 labels", metrics={"labels": 60})
    again = load_head(data)
    vectors, _ = drawn(20)
    assert (again.labels, again.embedding) == (LABELS, LOOK)
    assert (again.scores(vectors) == head.scores(vectors)).all()
    card = check_file(data, where="kind.safetensors")
    assert card is not None
    assert (card.kind, card.labels, card.trained_on) == ("head", LABELS, "60 labels")
    assert as_model_file(data, where="kind.safetensors", sha256=None, card=None).data == data  # the registry takes it


def changed(head: Head, *, drop: str | None = None, card: dict[str, Any] | None = None, **tensors: Any) -> bytes:
    """The file of a head with another card or other tensors."""
    data = save_head(head)
    found = read_card(data, where="")
    assert found is not None
    held = {name: tensor for name, tensor in load(data).items() if name != drop} | tensors
    return save(held, metadata={CARD_KEY: found.model_copy(update=card or {}).model_dump_json()})


NO_EMBEDDING = {"extra": {"k": 5, "temperature": 0.1}}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no head", "it has no card"),
        (save({"weight": np.zeros((3, 6), np.float32)}), "it has no card"),
        (changed(linear(), card={"architecture": "builtin/digit_cnn"}), "its card says builtin/digit_cnn"),
        (changed(linear(), drop="bias"), "has the tensors weight, bias; this one has weight"),
        (changed(linear(), more=np.zeros(3)), "this one has bias, more, weight"),
        (changed(linear(), weight=np.zeros((3, 6))), "weight is float64, it should be float32"),
        (changed(linear(), weight=np.zeros((3, 5), np.float32)), r"weight has the shape \(3, 5\), .* it is \(3, 6\)"),
        (changed(linear(), bias=np.full(3, np.inf, np.float32)), "bias is not finite"),
        (changed(linear(), card={"labels": ("a", "b")}), "for 2 labels"),
        (changed(linear(), card={"labels": ("a", "a", "b")}), "not all different"),
        (changed(linear(), card={"labels": ()}), "it has no labels"),
        (changed(linear(), card={"extra": {}}), "does not say of which embedding"),
        (changed(nearest(), card=NO_EMBEDDING), "does not say of which embedding"),
        (changed(nearest(), point_labels=np.full(50, 3)), "label is none of the 3"),
        (changed(nearest(), point_labels=np.zeros(49, np.int64)), r"point_labels has the shape \(49,\)"),
        (changed(nearest(), card={"extra": {"embedding": LOOK.model_dump(), "k": 0, "temperature": 1}}), "k is 0"),
        (changed(nearest(), card={"extra": {"embedding": LOOK.model_dump(), "k": 51, "temperature": 1}}), "k is 51"),
        (changed(nearest(), card={"extra": {"embedding": LOOK.model_dump(), "k": 3, "temperature": 0}}), "is 0.0"),
        (changed(nearest(), card={"extra": {"embedding": LOOK.model_dump(), "k": "3"}}), "lacks k"),
    ],
)
def test_load_head__says_what_is_wrong(data: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_head(data, where="kind.safetensors")


def test_check_file__a_damaged_head_is_none() -> None:
    with pytest.raises(ModelError, match=r"kind.safetensors: .*bias is not finite"):
        check_file(changed(linear(), bias=np.full(3, np.nan, np.float32)), where="kind.safetensors")


def test_heads__need_no_torch() -> None:
    program = "import sys, winnow_workers.heads; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"
