"""Heads from people's labels on stored vectors: what teaches, what is gold, what the gate lets through."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.head_learning.digits_job import HEAD, LOOK, DigitsJob, make_digits, reserved
from tests.jobs.whole_nights import night
from winnow_annotation.gate.verdict import Reason
from winnow_annotation.policies import Policy
from winnow_jobs.head_learning.fit import HeadKind
from winnow_jobs.head_learning.head_task import head_job
from winnow_jobs.head_learning.judge import answers_of, promise_checks
from winnow_jobs.head_learning.labelled import head_labels, job_events
from winnow_jobs.head_learning.learn_heads import HeadOptions, LearnedHead, learn_heads
from winnow_storage.errors import UsageError
from winnow_workers.heads import Head, Linear, load_head

DEFAULT = HeadOptions()


def learned(digits: DigitsJob, options: HeadOptions = DEFAULT, **more: Any) -> LearnedHead:
    found = learn_heads(digits.job(**more), digits.runs, digits.registry, options)["kind"]
    assert isinstance(found, LearnedHead), found
    return found


def test_learn_heads__the_first_one_then_a_better_one(digits: DigitsJob) -> None:
    keys = digits.keys
    digits.answer(keys[:60])
    digits.answer(keys[200:], "calibrate")
    first = learned(digits, HeadOptions(stage="prod", by="ann"))
    assert first.entry.version == "1"
    assert first.verdict.reasons == (Reason.FIRST,)
    assert first.promoted == "prod"
    taught = [key for key in keys if key not in reserved(digits)]
    assert first.labels == sum(key in taught for key in keys[:60] + keys[200:])
    assert first.verdict.gold == sum(key not in taught for key in keys[200:])
    metrics = first.entry.card["metrics"]
    assert metrics["labels"] == first.labels
    assert metrics["gold_share"] == 0.2
    assert len(metrics["labels_digest"]) == 64
    assert "parent" not in first.entry.card
    assert first.accuracy > 0.6

    again = learned(digits, HeadOptions(stage="prod"))
    assert (again.entry.version, again.is_new, again.verdict.reasons) == ("1", False, (Reason.SAME,))
    assert again.promoted is None

    digits.answer(keys[60:200])
    second = learned(digits)
    assert (second.entry.version, second.is_new) == ("2", True)
    assert second.entry.card["parent"] == "kind@1"
    assert second.current is not None
    assert second.current.version == "1"
    assert second.verdict.gold == first.verdict.gold
    assert digits.registry.resolve("kind@prod").version == "1"  # nobody said that it may be promoted
    (kept,) = digits.registry.verdicts(second.entry)
    assert kept["verdict"]["gold"] == second.verdict.gold
    assert kept["verdict"]["against"] == "1"


def test_learn_heads__a_poisoned_one_is_kept_out(digits: DigitsJob) -> None:
    keys = digits.keys
    digits.answer(keys[:200])
    digits.answer([key for key in keys[200:] if key in reserved(digits)], "calibrate")
    assert learned(digits, HeadOptions(stage="prod")).promoted == "prod"
    digits.answer(keys[:200], "second_look", wrong=True, by="ann")  # the later answer of a person stands
    digits.answer([key for key in keys[200:] if key not in reserved(digits)])
    poisoned = learned(digits, HeadOptions(stage="prod"))
    assert not poisoned.verdict.promote
    assert poisoned.promoted is None
    assert Reason.WORSE in poisoned.verdict.reasons
    assert digits.registry.resolve("kind@prod").version == "1"


def test_learn_heads__is_the_same_by_its_seed(digits: DigitsJob, tmp_path: Path) -> None:
    digits.answer(digits.keys[:120])
    one = learned(digits, HeadOptions(seed=5))
    shutil.rmtree(digits.folder / "registry")
    two = learned(digits, HeadOptions(seed=5))
    assert one.entry.sha256 == two.entry.sha256


def test_learn_heads__by_neighbours(digits: DigitsJob) -> None:
    digits.answer(digits.keys[:150])
    digits.answer([key for key in digits.keys[150:] if key in reserved(digits)], "calibrate")
    found = learned(digits, HeadOptions(kind=HeadKind.KNN))
    assert found.entry.card["architecture"] == "head/knn"
    head = load_head(digits.registry.read(found.entry))
    gold = head_labels(
        "digits", digits.runs, digits.job().tasks[0], job_events(digits.runs), reserved=0.2, gold=0.2
    ).gold
    assert answers_of(head, gold).right.mean() > 0.7


def test_head_labels__gold_never_teaches_and_is_drawn_uniformly(digits: DigitsJob) -> None:
    keys, hidden = digits.keys, reserved(digits)
    digits.answer(keys[:100], "review")
    digits.answer(keys[100:200], "calibrate")
    digits.answer(keys[200:300], "audit")
    digits.answer(keys[300:310], "gold")
    task = digits.job().tasks[0]
    found = head_labels("digits", digits.runs, task, job_events(digits.runs), reserved=0.2, gold=0.2)
    assert set(found.gold.keys) == hidden & set(keys[100:200])
    assert set(found.teaching.keys) == set(keys[:300]) - hidden
    assert not set(found.gold.keys) & set(found.teaching.keys)
    assert found.left_out["known answers"] == 10
    assert found.left_out["reserved, and not in gold"] == len(hidden & set(keys[:100] + keys[200:300]))
    fewer = head_labels("digits", digits.runs, task, job_events(digits.runs), reserved=0.2, gold=0.1)
    assert set(fewer.gold.keys) < set(found.gold.keys)
    assert fewer.teaching.keys == found.teaching.keys
    assert fewer.digest == found.digest


def test_head_labels__copies_of_gold_do_not_teach(tmp_path: Path) -> None:
    digits = make_digits(tmp_path / "job", 30)
    hidden = sorted(reserved(digits, 0.5))
    free = [key for key in digits.keys if key not in hidden]
    for key in (free[0], free[1]):
        shutil.copyfile(digits.folder / "corpus" / hidden[0], digits.folder / "corpus" / key)
    shutil.rmtree(digits.folder / "out")
    night(digits.job().spec)
    digits.answer(hidden, "calibrate")
    digits.answer(free, "review")
    task = digits.job().tasks[0]
    found = head_labels("digits", digits.runs, task, job_events(digits.runs), reserved=0.5, gold=0.5)
    assert found.left_out["copies of gold"] == 2
    assert not {free[0], free[1]} & set(found.teaching.keys)


def test_learn_heads__a_promise_is_looked_at_on_gold(digits: DigitsJob) -> None:
    digits.answer(digits.keys[:200])
    digits.answer([key for key in digits.keys[200:] if key in reserved(digits)], "calibrate")
    good = load_head(digits.registry.read(learned(digits).entry))
    gold = head_labels(
        "digits", digits.runs, digits.job().tasks[0], job_events(digits.runs), reserved=0.2, gold=0.2
    ).gold
    assert isinstance(good.rule, Linear)
    flat = Head(good.labels, good.embedding, Linear(good.rule.weight * 0, good.rule.bias * 0))
    (check,) = promise_checks(flat, good, gold, Policy(max_error=0.4, confidence=0.8))
    assert (check.testable, check.candidate, check.current) == (True, False, True)
    assert check.text == "max_error 0.4"
    assert check.current_coverage > 0.3
    (few,) = promise_checks(flat, good, gold, Policy(max_error=0.001, confidence=0.99))
    assert not few.testable


def test_learn_heads__says_what_is_missing(digits: DigitsJob) -> None:
    def refused(**more: Any) -> str:
        found = learn_heads(digits.job(**more), digits.runs, digits.registry, HeadOptions())["kind"]
        assert isinstance(found, UsageError)
        return found.message

    assert refused() == "task kind: nobody has answered anything about it yet"
    free = [key for key in digits.keys if key not in reserved(digits)]
    sevens = [key for key in free if key[5] == "7"]
    digits.answer(sevens[:4])
    assert refused() == "4 labels can teach, at least 10 are needed"
    digits.answer(sevens[4:14])
    assert refused() == "all 14 labels say '7': there is nothing to tell apart"
    changed = {**LOOK, "dtype": "float32"}
    assert "the stored vectors of look are of another model or other parameters" in refused(tasks=[changed, HEAD])


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([LOOK], "no task of the spec has a head to learn"),
        ([LOOK, {**HEAD, "model": "models/kind"}], "task kind: models/kind means the newest version"),
        ([LOOK, {**HEAD, "model": "head.safetensors"}], "is not in the registry"),
        ([LOOK, {**HEAD, "vectors": "lok"}], "task kind: vectors names 'lok', which is no task of embed"),
        ([LOOK, {**HEAD, "tree": {"a": None}}], "a head learns one label an image"),
    ],
)
def test_head_job__refuses_what_cannot_be_learned(tmp_path: Path, tasks: list[dict[str, Any]], message: str) -> None:
    (tmp_path / "corpus").mkdir()
    with pytest.raises(UsageError) as refused:
        head_job(DigitsJob(tmp_path).source(tasks=tasks), [])
    assert message in refused.value.message
    with pytest.raises(UsageError, match="the spec has no such task"):
        head_job(DigitsJob(tmp_path).source(), ["kin"])
    with pytest.raises(UsageError, match="task look: its model is no head"):
        head_job(DigitsJob(tmp_path).source(), ["look"])
