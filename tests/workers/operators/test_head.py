"""A classifier of vectors: what it says, what it refuses, and what is known of it before any work is planned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from winnow_storage.errors import ModelError
from winnow_workers.catalogue import operator_of
from winnow_workers.frontier import IsolatingRunner, TaskFailure
from winnow_workers.heads import Embedding, Head, Linear, save_head
from winnow_workers.models import fingerprint
from winnow_workers.models.labels import labels_of
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import NO_PIXELS, Prediction, TaskConfig, View
from winnow_workers.operators.classify import ClassifyOperator, ClassifyParams, vectors_of
from winnow_workers.operators.head import HeadOperator
from winnow_workers.preflight import check_tasks

DIGEST = "d" * 64
LOOK = TaskConfig("look", "embed", resolve_model("builtin/fingerprint"), {})


def head_file(folder: Path, *, dimensions: int = 4, task_digest: str = DIGEST) -> Path:
    """Three classes, each of which follows one number of the vector."""
    embedding = Embedding(task="look", task_digest=task_digest, dimensions=dimensions)
    rule = Linear(8 * np.eye(3, dimensions, dtype=np.float32), np.zeros(3, np.float32))
    file = folder / f"head-{dimensions}.safetensors"
    file.write_bytes(save_head(Head(("cat", "dog", "owl"), embedding, rule)))
    return file


def task(file: Path, **params: Any) -> TaskConfig:
    vectors = {"task": "look", "digest": DIGEST}
    return TaskConfig("kind", "classify", resolve_model(str(file)), {"vectors": vectors, **params})


def opened(config: TaskConfig) -> HeadOperator:
    operator = operator_of(config, "cpu")
    assert isinstance(operator, HeadOperator)
    operator.open()
    return operator


def view(*vector: float) -> View:
    return View(NO_PIXELS, 0, 0, np.array(vector, np.float16))


def test_run__gives_the_fields_of_a_classifier(tmp_path: Path) -> None:
    operator = opened(task(head_file(tmp_path), top_k=2))
    one, other = operator.run([view(0, 3, 0, 0), view(1, 0, 0, 0)])
    assert (one.fields["label"], other.fields["label"]) == ("dog", "cat")
    assert [entry["label"] for entry in one.fields["top"]] == ["dog", "cat"]  # type: ignore[attr-defined]
    expected = np.exp(8) / (np.exp(8) + 2)
    assert (one.score, one.score_kind, one.p_ok) == (pytest.approx(expected), "softmax", None)
    names = [field.name for field in operator.fields()]
    assert names == ["label", "margin", "top", "entropy"] == list(one.fields)
    assert (operator.vectors_of, operator.dimensions, operator.preproc) == ("look", 4, f"vectors-{DIGEST[:12]}")


def test_run__a_tree_of_its_labels_is_descended(tmp_path: Path) -> None:
    tree = {"pet": None, "cat": "pet", "dog": "pet", "owl": None}
    operator = opened(task(head_file(tmp_path), tree=tree))
    (torn,) = operator.run([view(1, 1, 0, 0)])
    assert torn.fields["label"] == "pet"
    with pytest.raises(ModelError, match="lacks"):
        opened(task(head_file(tmp_path), tree={"pet": None, "cow": "pet"}))


def test_run__a_vector_that_is_no_number_is_its_own_item_s_fault(tmp_path: Path) -> None:
    runner = IsolatingRunner("kind", opened(task(head_file(tmp_path))))
    good, bad, none = runner.run([view(1, 0, 0, 0), view(np.nan, 0, 0, 0), View(NO_PIXELS, 0, 0)])
    assert isinstance(good, Prediction)
    assert bad == TaskFailure("ArithmeticError: the vector is not finite")
    assert none == TaskFailure("ValueError: there is no vector of this image")
    with pytest.raises(ModelError, match="takes vectors of 4 numbers"):  # no item's fault
        runner.run([view(1, 0)])


def test_open__a_head_of_another_embedding_is_refused(tmp_path: Path) -> None:
    file = head_file(tmp_path, task_digest="e" * 64)
    with pytest.raises(
        ModelError, match=r"another embedding \(task look, eeeeeeeeeeee\) than those of look \(dddddddddddd\)"
    ):
        opened(task(file))
    opened(TaskConfig("kind", "classify", resolve_model(str(file)), {"vectors": "look"}))  # of no spec


def test_open__what_is_no_head_and_a_head_without_vectors_are_refused(tmp_path: Path) -> None:
    file = head_file(tmp_path)
    with pytest.raises(ModelError, match="it has no weights file"):
        opened(TaskConfig("kind", "classify", resolve_model("builtin/fingerprint"), {"vectors": "look"}))
    plain = operator_of(TaskConfig("kind", "classify", resolve_model(str(file)), {}), "cpu")
    assert isinstance(plain, ClassifyOperator)
    with pytest.raises(ModelError, match="head/linear is a head: it takes the vectors of another task") as raised:
        plain.open()
    assert raised.value.hint is not None
    assert "vectors: TASK" in raised.value.hint


def test_check_tasks__says_which_task_s_head_does_not_fit(tmp_path: Path) -> None:
    check_tasks([LOOK, task(head_file(tmp_path, dimensions=fingerprint.LENGTH))])
    with pytest.raises(
        ModelError, match=rf"task kind: .* takes vectors of 4 numbers, those of look have {fingerprint.LENGTH}"
    ):
        check_tasks([LOOK, task(head_file(tmp_path))])
    with pytest.raises(ModelError, match=r"task kind: .* another embedding"):
        check_tasks([task(head_file(tmp_path, task_digest="e" * 64))])


def test_labels_of__are_the_head_s(tmp_path: Path) -> None:
    assert labels_of(task(head_file(tmp_path))) == ("cat", "dog", "owl")


def test_classify_params__vectors_are_a_name_or_a_pinned_one() -> None:
    params = ClassifyParams.model_validate({"vectors": "look"})
    assert vectors_of("classify", params.model_dump(mode="json")) == "look"
    assert vectors_of("classify", ClassifyParams().model_dump(mode="json")) is None
    assert vectors_of("mine:Own", {"vectors": {"task": "look"}}) is None
    assert "vectors" not in ClassifyParams().model_dump(mode="json")  # digests of before it existed are as they were


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"labels": ["a", "b"]}, "labels"),
        ({"prompts": {"templates": ["a {}"]}}, "prompts"),
        ({"precision": "bf16"}, "precision"),
        ({"input": {"height_px": 8, "width_px": 8}}, "input"),
        ({"choose": "several"}, "choose: several"),
        ({"label_file": "labels.yaml"}, "label_file"),
    ],
)
def test_classify_params__of_a_head_refuse_what_is_about_pixels(params: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=f"for which {named} means nothing"):
        ClassifyParams.model_validate({"vectors": "look"} | params)
