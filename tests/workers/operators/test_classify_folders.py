"""Does classify say of transformers folders what the library says of each image alone? Heads, and pairs of towers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.operators import classifier_folders
from tests.workers.operators.classifier_folders import LABELS, as_chw, write_classifier, write_pair
from tests.workers.operators.making import opened
from tests.workers.operators.test_classify_parity import pictures, same_answers
from winnow_storage.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
NAMES = list(LABELS.values())


def pixels() -> list[np.ndarray]:
    return [one.pixels for one in pictures()]


@pytest.mark.parametrize("family", ["vit", "convnext", "mobilevit"])
def test_classify__a_folder_as_the_library_on_each_image_alone(family: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model, processor = write_classifier(tmp_path, family, pixels())
    operator = opened("classify", f"transformers/{tmp_path}")
    with torch.inference_mode():
        alone = [
            model(**processor(images=[as_chw(one)], return_tensors="pt")).logits[0].softmax(dim=-1).numpy()
            for one in pixels()
        ]
    same_answers(operator.run(pictures()), alone, NAMES)
    assert operator.needed_side_px >= classifier_folders.SIDE_PX


def said_by_the_pair(family: str, parts: tuple[Any, Any, Any], prompts: list[str]) -> list[np.ndarray]:
    model, processor, tokenizer = parts
    padding = {"padding": "max_length", "max_length": 16} if family == "siglip" else {"padding": True}
    found = []
    for one in pixels():
        inputs = {
            **tokenizer(prompts, return_tensors="pt", **padding),
            **processor(images=[as_chw(one)], return_tensors="pt"),
        }
        with torch.inference_mode():
            logits = model(**inputs).logits_per_image[0]
        found.append((logits.softmax(dim=-1) if family == "clip" else logits.sigmoid()).numpy())
    return found


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_classify__a_pair_as_the_library_on_each_image_alone(family: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    parts = write_pair(tmp_path, family)
    prompts = {"templates": "a drawing of the {}", "texts": {"owl": "a big owl"}}
    operator = opened("classify", f"transformers/{tmp_path}", labels=NAMES, prompts=prompts)
    asked = [f"a drawing of the {name}" if name != "owl" else "a big owl" for name in NAMES]
    predictions = operator.run(pictures())
    for prediction, wanted in zip(predictions, said_by_the_pair(family, parts, asked), strict=True):
        assert prediction.fields["label"] == NAMES[int(wanted.argmax())]
        found = {one["label"]: one["score"] for one in prediction.fields["top"]}
        assert [found[name] for name in NAMES] == pytest.approx(list(wanted), abs=1e-4)
        assert np.ptp(wanted) > 0.02  # the towers tell the labels apart
        assert prediction.score_kind == ("softmax" if family == "clip" else "sigmoid")


def test_classify__a_siglip_pair_gives_several_labels_and_clip_refuses(tmp_path: Path) -> None:
    parts = write_pair(tmp_path / "siglip", "siglip")
    (wanted, _) = said_by_the_pair("siglip", parts, [f"This is a photo of {name}." for name in NAMES])
    middle = float(np.median(wanted))
    operator = opened(
        "classify", f"transformers/{tmp_path}/siglip", labels=NAMES, choose="several", thresholds=middle, floor=0.0
    )
    (prediction, _) = operator.run(pictures())
    assert set(prediction.fields["labels"]) == {name for name, p in zip(NAMES, wanted, strict=True) if p >= middle}
    assert len(prediction.fields["labels"]) == 2
    write_pair(tmp_path / "clip", "clip")
    with pytest.raises(ModelError, match="only compares labels"):
        opened("classify", f"transformers/{tmp_path}/clip", labels=NAMES, choose="several")


def test_classify__several_prompts_of_a_label_are_averaged(tmp_path: Path) -> None:
    model, _, tokenizer = write_pair(tmp_path, "clip")
    templates = ["a photo of the {}", "a big {}"]
    operator = opened("classify", f"transformers/{tmp_path}", labels=NAMES, prompts={"templates": templates})
    with torch.inference_mode():
        each = [
            torch.nn.functional.normalize(
                model.get_text_features(
                    **tokenizer([one.format(name) for name in NAMES], return_tensors="pt", padding=True)
                ).pooler_output,
                dim=-1,
            )
            for one in templates
        ]
    mean = torch.nn.functional.normalize((each[0] + each[1]) / 2, dim=-1)
    tower: Any = operator._classifier.batch.module
    assert torch.allclose(tower.labels_lf, mean, atol=1e-5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "a pair has no labels of its own"),
        ({"labels": NAMES, "prompts": {"texts": {"cat": " ".join(["cat"] * 30)}}}, "32 tokens long"),
    ],
)
def test_classify__what_a_pair_cannot_be_asked(params: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_pair(tmp_path, "clip")
    with pytest.raises(ModelError, match=message):
        opened("classify", f"transformers/{tmp_path}", **params)


@pytest.mark.parametrize(
    ("family", "lost"), [("clip", ["tokenizer.json"]), ("siglip", ["tokenizer.json", "tokenizer_config.json"])]
)
def test_classify__a_pair_without_a_vocabulary(family: str, lost: list[str], tmp_path: Path) -> None:
    write_pair(tmp_path, family)
    for name in lost:
        (tmp_path / name).unlink()
    with pytest.raises(
        ModelError, match=r"its tokenizer cannot be opened: it holds none of tokenizer\.json"
    ) as refused:
        opened("classify", f"transformers/{tmp_path}", labels=NAMES)
    assert refused.value.hint == "the folder needs tokenizer.json and tokenizer_config.json beside its weights"


def test_classify__a_pair_whose_vocabulary_is_damaged(tmp_path: Path) -> None:
    write_pair(tmp_path, "clip")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="its tokenizer cannot be opened"):
        opened("classify", f"transformers/{tmp_path}", labels=NAMES)


def test_classify__a_tree_asks_a_pair_for_its_leaves(tmp_path: Path) -> None:
    write_pair(tmp_path, "clip")
    tree = {"animal": {"pet": ["cat", "dog"], "wild": ["owl"]}, "cow": None}
    operator = opened("classify", f"transformers/{tmp_path}", tree=tree, sure=0.5)
    assert operator._classifier.labels == ("cat", "dog", "owl", "cow")


def test_classify__folders_that_do_not_fit_the_task(tmp_path: Path) -> None:
    write_classifier(tmp_path, "vit", pixels())
    folder = f"transformers/{tmp_path}"
    with pytest.raises(ModelError, match="2 labels for a model with 4 outputs"):
        opened("classify", folder, labels=["a", "b"])
    with pytest.raises(ModelError, match="prompts: are for a CLIP or SigLIP pair"):
        opened("classify", folder, prompts={"templates": "a {}"})
    classifier_folders.say_problem(tmp_path, "multi_label_classification")
    with pytest.raises(ModelError, match="several labels may hold"):
        opened("classify", folder)
    assert opened("classify", folder, choose="several").run(pictures())[0].score_kind == "set_sigmoid"
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"has no preprocessor_config\.json"):
        opened("classify", folder, choose="several")
    own = {"height_px": 64, "width_px": 64}
    assert opened("classify", folder, choose="several", input=own).preproc.startswith("p1-64x64")
