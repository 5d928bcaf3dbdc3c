"""Does classify give sets of labels and nodes of a tree as defined, and refuse what does not fit together?"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tests.workers.operators.making import flat, opened, view
from tests.workers.operators.test_classify import CALIBRATOR, brightness_model
from winnow_storage.errors import ModelError, SpecError
from winnow_storage.ids import digest_value
from winnow_workers.confidence.features import features, fields_of
from winnow_workers.operators.classify import ClassifyParams

BRIGHT, DARK = flat((255, 255, 255)), flat((0, 0, 0))
TREE = {"shade": {"low": ["dark", "mid"], "light": None}}


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_several__every_label_above_the_floor_and_those_above_their_thresholds(tmp_path: Path) -> None:
    thresholds = {"dark": 0.8, "light": 0.9}
    operator = opened("classify", brightness_model(tmp_path), choose="several", thresholds=thresholds, floor=0.3)
    bright, dark = operator.run([view(BRIGHT), view(DARK)])  # logits (1, 0, 3) and (1, 0, -1)
    p = [sigmoid(1), sigmoid(0), sigmoid(3)]
    assert bright.fields["labels"] == ["light", "mid"]  # at 0.953 of 0.9 and at 0.5 of 0.5; dark at 0.731 of 0.8
    assert [(one["label"], pytest.approx(one["score"], abs=1e-4)) for one in bright.fields["top"]] == [
        ("light", p[2]),
        ("dark", p[0]),
        ("mid", p[1]),
    ]
    assert bright.score == pytest.approx(p[2] * p[1] * (1 - p[0]), abs=1e-4)
    assert bright.score_kind == "set_sigmoid"
    assert bright.fields["margin"] == pytest.approx(0.0, abs=1e-4)
    assert dark.fields["labels"] == ["mid"]
    assert [one["label"] for one in dark.fields["top"]] == ["dark", "mid"]  # light, at 0.269, is below the floor
    binary = -sum(q * math.log(q) + (1 - q) * math.log(1 - q) for q in p)
    assert bright.fields["entropy"] == pytest.approx(binary, abs=1e-3)


def test_several__none_of_them(tmp_path: Path) -> None:
    operator = opened("classify", brightness_model(tmp_path), choose="several", thresholds=0.99)
    (dark,) = operator.run([view(DARK)])
    assert dark.fields["labels"] == []
    assert dark.score == pytest.approx((1 - sigmoid(1)) * 0.5 * (1 - sigmoid(-1)), abs=1e-4)


@pytest.mark.parametrize(
    ("sure", "label", "path"),
    [(0.5, "light", ["shade", "light"]), (0.95, "shade", ["shade"])],
)
def test_tree__as_deep_as_it_is_sure(sure: float, label: str, path: list[str], tmp_path: Path) -> None:
    model = brightness_model(tmp_path, calibrator=CALIBRATOR)
    (bright,) = opened("classify", model, tree=TREE, sure=sure).run([view(BRIGHT)])
    p = np.exp([1.0, 0.0, 3.0]) / np.exp([1.0, 0.0, 3.0]).sum()
    scaled = np.exp([0.5, 0.0, 1.5]) / np.exp([0.5, 0.0, 1.5]).sum()
    assert bright.fields["label"] == label
    assert [one["label"] for one in bright.fields["path"]] == path
    assert bright.fields["path"][0]["score"] == pytest.approx(1.0)
    assert bright.score == pytest.approx(p[2] if label == "light" else 1.0, abs=1e-4)
    assert bright.p_ok == pytest.approx(scaled[2] if label == "light" else 1.0, abs=1e-4)
    assert [one["label"] for one in bright.fields["top"]] == ["light", "dark", "mid"]


def test_tree__nothing_is_sure(tmp_path: Path) -> None:
    tree = {"dark": None, "mid": None, "light": None}
    (dark,) = opened("classify", brightness_model(tmp_path, calibrator=CALIBRATOR), tree=tree).run([view(DARK)])
    assert (dark.fields["label"], dark.fields["path"]) == (None, [])
    assert dark.score == pytest.approx(math.e / (math.e + 1 + math.exp(-1)), abs=1e-4)
    assert dark.p_ok == 0.0


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"choose": "several", "tree": TREE}, "exclude each other"),
        ({"thresholds": 0.3}, "need choose: several"),
        ({"floor": 0.2}, "need choose: several"),
        ({"sure": 0.7}, "needs a tree"),
        ({"sure": 0.4, "tree": TREE}, "greater than or equal to 0.5"),
        ({"choose": "several", "thresholds": 0.0}, "no probability above 0"),
        ({"choose": "several", "thresholds": {"a": 1.5}}, "no probability above 0"),
        ({"choose": "several", "labels": ["cat"], "thresholds": {"cta": 0.5}}, "no label; did you mean 'cat'"),
        ({"labels": ["dark", "mid"], "tree": TREE}, "ends in 'light'"),
        ({"tree": {"a": "b", "b": "a"}}, "goes in a circle"),
        ({"labels": ["a"], "label_file": "x.txt"}, "write one of them"),
        ({"labels": ["a", " "]}, "a label is empty"),
        ({"prompts": {"templates": ["a photo"]}}, "needs {} once"),
        ({"prompts": {"templates": []}}, "at least 1 item"),
        ({"prompts": {"texts": {"cat": [""]}}}, "a prompt of 'cat' is empty"),
        ({"labels": ["cat"], "prompts": {"texts": {"dog": "a dog"}}}, "'dog', which is no label"),
    ],
)
def test_params__refused_before_anything_is_read(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ClassifyParams.model_validate(params)


def test_params__what_only_the_model_shows_is_refused_when_it_opens(tmp_path: Path) -> None:
    model = brightness_model(tmp_path)
    with pytest.raises(ModelError, match="thresholds has 'lihgt', which is no label; did you mean 'light'"):
        opened("classify", model, choose="several", thresholds={"lihgt": 0.5})
    with pytest.raises(ModelError, match="the tree lacks 'light' of the model's 3 labels"):
        opened("classify", model, tree={"dark": None, "mid": None})


def test_params__a_label_file_is_read_into_the_digest(tmp_path: Path) -> None:
    (tmp_path / "tree.json").write_text('{"shade": {"low": ["dark", "mid"], "light": null}}')
    named = ClassifyParams(label_file="tree.json").pinned(tmp_path)
    assert named == ClassifyParams.model_validate({"tree": TREE})
    assert "label_file" not in named.model_dump()
    (tmp_path / "labels.txt").write_text("dark\n")
    with pytest.raises(SpecError, match=r"labels\.txt: thresholds has 'mid'"):
        ClassifyParams(label_file="labels.txt", choose="several", thresholds={"mid": 0.5}).pinned(tmp_path)


def test_params__tasks_of_before_keep_their_digest_and_prompts_are_in_it() -> None:
    assert set(ClassifyParams(labels=("a",)).model_dump(mode="json")) == {"labels", "input", "top_k"}
    one, other = ({"labels": ["a"], "prompts": {"templates": text}} for text in ("a {}", "the {}"))
    digests = {digest_value(ClassifyParams.model_validate(p).model_dump(mode="json")) for p in (one, other)}
    assert len(digests) == 2


@pytest.mark.parametrize("params", [{"choose": "several", "thresholds": 0.99}, {"tree": TREE}])
def test_features__of_sets_and_nodes_are_usable(params: dict[str, Any], tmp_path: Path) -> None:
    operator = opened("classify", brightness_model(tmp_path), **params)
    predictions = operator.run([view(BRIGHT), view(DARK)])
    names = fields_of("classify")
    rows = pa.array([{name: {"score": one.score, **one.fields}[name] for name in names} for one in predictions])
    found = features("classify", rows)
    assert found.usable.all()
