"""Whether a run's images, scores and labels are what they were: nights of a job, and the one alarm of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.jobs.drawn_runs import LOOK, TASK, answer, commit_run, job
from winnow_annotation.policies import DriftSpec, Policy, ReviewSpec
from winnow_annotation.sampling import position
from winnow_jobs import drift
from winnow_jobs.drift_records import drift_line, drift_view, drift_warnings, read_drift
from winnow_jobs.drift_samples import load_sample, run_samples
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review import route_run
from winnow_jobs.review_notes import review_warnings
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.errors import StoreError
from winnow_storage.ids import item_id
from winnow_workers.confidence import two_samples

CLASSES = ("a", "b")
WIDTH = 8


def review(*, calibrate: int = 0, **drift: Any) -> ReviewSpec:
    return ReviewSpec(
        policies={TASK: Policy(min_p_ok=0.5)}, budget=100, calibrate=calibrate, drift=DriftSpec.model_validate(drift)
    )


@pytest.fixture(autouse=True)
def _few_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for the limits here; so many as usual take a second a run."""
    monkeypatch.setattr(two_samples, "SHUFFLES", 599)
    monkeypatch.setattr(two_samples, "CLASS_SHUFFLES", 999)


class Nights:
    """Runs of one job, one after the other."""

    def __init__(self, folder: Path, wanted: ReviewSpec) -> None:
        self.resolved: ResolvedSpec
        self.runs: Runs
        self.resolved, self.runs = job(folder, wanted, with_vectors=True)
        self.number = 0

    def commit(self, *, n: int = 200, shift: float = 0.0, sure: float = 5.0, mix: float | None = None) -> PlanDocument:
        self.number += 1
        rng = np.random.default_rng(self.number)
        first = rng.beta(sure, 2.0, n) if mix is None else np.where(rng.uniform(size=n) < mix, 0.9, 0.1)
        vectors = rng.normal(size=(n, WIDTH))
        vectors[: n // 5] += shift
        self.keys = [f"{self.number}-{place:04d}.jpg" for place in range(n)]
        return commit_run(self.runs, self.resolved, self.keys, np.stack([first, 1 - first], axis=1), CLASSES, vectors)

    def night(self, **given: Any) -> dict[str, Any]:
        return route_run(self.runs.store, self.commit(**given))

    def answer(self, run_id: str, share: float) -> None:
        rng = np.random.default_rng(100 + int(run_id))
        truth = {f"{run_id.lstrip('0')}-{place:04d}.jpg": "ab"[rng.uniform() < share] for place in range(200)}
        answer(self.runs, run_id, truth, ["calibrate"])


def said_of(record: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{one['kind']}/{one['task']}/{one['of']}": one for one in record["drift"]}


def test_drift__of_inputs_raises_one_alarm_and_begins_anew(tmp_path: Path) -> None:
    nights = Nights(tmp_path, review())
    assert nights.night()["drift"] == []
    calm = nights.night()
    assert {name: one["limit"] for name, one in said_of(calm).items()} == {
        f"inputs/{LOOK}/vector": 0.005,
        f"scores/{TASK}/score": 0.0025,
        f"scores/{TASK}/label": 0.0025,
    }
    assert calm["drift_alarm"] is None
    assert review_warnings(calm) == []

    plan = nights.commit(shift=1.5)
    record = route_run(nights.runs.store, plan)
    alarm = record["drift_alarm"]
    assert (alarm["run_id"], alarm["moved"]) == ("0003", ["inputs"])
    (moved,) = alarm["tests"]
    assert (moved["task"], moved["before"], moved["since"]) == (LOOK, 400, "of runs 0001 to 0002")
    assert moved["p_value"] <= moved["limit"] < 1
    assert all(int(key[2:6]) < 40 for key in moved["such_as"])  # the ones that were shifted
    (warning,) = drift_warnings(record)
    assert "look: the vectors of 200 images part from those of runs 0001 to 0002 (maximum mean discrepancy" in warning
    assert "label a random draw of this run (review.calibrate)" in warning
    assert route_run(nights.runs.store, plan) == record

    after = nights.night(shift=1.5)
    assert after["drift_alarm"] is None
    assert said_of(after)[f"inputs/{LOOK}/vector"]["since"] == "of run 0003"
    assert said_of(after)[f"scores/{TASK}/label"]["since"] == "of runs 0001 to 0003"
    assert nights.night()["drift_alarm"]["moved"] == ["inputs"]  # back to what it was: a change again


def test_drift__of_scores_without_a_calibrator(tmp_path: Path) -> None:
    nights = Nights(tmp_path, review())
    nights.night()
    alarm = nights.night(sure=2.0)["drift_alarm"]
    assert alarm["moved"] == ["scores"]
    assert "kind: the scores of 200 predictions part from those of run 0001 (Kolmogorov-Smirnov" in alarm["text"]


def test_drift__of_what_is_predicted_where_scores_stay_as_they_were(tmp_path: Path) -> None:
    nights = Nights(tmp_path, review())
    nights.night(mix=0.7)
    assert nights.night(mix=0.7)["drift_alarm"] is None
    alarm = nights.night(mix=0.4)["drift_alarm"]
    (moved,) = alarm["tests"]
    assert (moved["kind"], moved["of"], moved["distance"] > moved["threshold"]) == ("scores", "label", True)
    assert moved["such_as"][0].startswith("a 7")
    assert "kind: the classes of 200 predictions part from those of runs 0001 to 0002 (Cramér's V" in alarm["text"]


def test_drift__of_labels_is_seen_by_the_run_after_they_came(tmp_path: Path) -> None:
    nights = Nights(tmp_path, review(calibrate=60))
    for share in (0.3, 0.3, 0.3, 0.7):
        record = nights.night()
        assert record["drift_alarm"] is None
        nights.answer(f"{nights.number:04d}", share)
    record = nights.night()
    moved = said_of(record)[f"labels/{TASK}/class"]
    assert record["drift_alarm"]["moved"] == ["labels"]
    assert (moved["items"], moved["before"], moved["since"]) == (60, 180, "of runs 0001 to 0003")
    assert moved["such_as"][0].startswith("a ")
    assert "the classes that people saw in 60 random draws part from those" in record["drift_alarm"]["text"]
    found = read_drift(nights.runs.store, "0005")
    assert found is not None
    assert found.moved == {f"labels/{TASK}": "0004"}
    again = nights.night()
    assert f"labels/{TASK}/class" not in said_of(again)  # nobody answered since: there is nothing new to say
    nights.answer("0005", 0.7)
    assert said_of(nights.night())[f"labels/{TASK}/class"]["since"] == "of run 0004"


def test_drift__is_compared_with_so_many_runs_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "REFERENCE_RUNS", 2)
    nights = Nights(tmp_path, review())
    for _ in range(4):
        nights.night()
    found = read_drift(nights.runs.store, "0004")
    assert found is not None
    assert {one.runs for one in found.references.values()} == {("0001", "0002")}
    assert len(list(nights.runs.store.walk("drift/"))) == 4
    view = drift_view(nights.runs.store)
    assert view is not None
    assert (view["run_id"], view["drift_alarm"], view["last_moved"]) == ("0004", None, None)
    assert drift_line(view).startswith("drift: run 0004: none (inputs of look p 0.")


def test_drift__none_is_asked_for_or_there_is_too_little(tmp_path: Path) -> None:
    without = Nights(tmp_path / "without", review(false_alarms=0))
    assert "drift" not in without.night()
    assert list(without.runs.store.walk("drift/")) == []
    few = Nights(tmp_path / "few", review())
    few.night(n=30)
    assert few.night(shift=9.0)["drift"] == []
    assert few.night(shift=9.0)["drift"] != []  # by now there are enough before it


def test_drift__of_another_model_is_compared_with_nothing(tmp_path: Path) -> None:
    nights = Nights(tmp_path, review())
    nights.night()
    nights.resolved, _ = job(tmp_path, review(), revision=2, with_vectors=True)
    assert said_of(nights.night()).keys() == {f"inputs/{LOOK}/vector"}  # of the other task


def test_drift__what_is_compared_is_never_something_else(tmp_path: Path) -> None:
    nights = Nights(tmp_path, review())
    nights.night()
    (kept, *_) = nights.runs.store.walk("drift/look/")
    place = tmp_path / "out" / kept.key
    data = place.read_bytes()
    place.write_bytes(data + b" ")
    with pytest.raises(StoreError, match="is not what was written there") as caught:
        nights.night()
    assert "false_alarms: 0" in str(caught.value.hint)
    place.unlink()
    with pytest.raises(StoreError, match="runs are compared with it"):
        route_run(nights.runs.store, nights.runs.plan("0002"))
    place.write_bytes(data)
    (tmp_path / "out/runs/0001/drift.json").write_text('{"format": 2}')
    with pytest.raises(StoreError, match="not what was written when the run was routed"):
        route_run(nights.runs.store, nights.runs.plan("0002"))


def test_run_samples__are_the_lowest_of_all_and_make_the_sample_of_both(tmp_path: Path) -> None:
    nights = Nights(tmp_path, review(sample=100))
    plans = [nights.commit(), nights.commit()]
    items = {run: [item_id("c", f"{run}-{place:04d}.jpg") for place in range(200)] for run in (1, 2)}

    def lowest(some: list[str]) -> list[str]:
        return sorted(some, key=lambda item: position("shelves\0drift", item))[:100]

    for plan, some in zip(plans, items.values(), strict=True):
        samples = run_samples(nights.runs.store, plan, vectors=LOOK)
        assert samples[TASK]["item_id"].to_pylist() == samples[LOOK]["item_id"].to_pylist() == lowest(some)
        route_run(nights.runs.store, plan)
    found = read_drift(nights.runs.store, "0002")
    assert found is not None
    kept = load_sample(nights.runs.store, LOOK, found.references[f"inputs/{LOOK}"].digest or "")
    assert kept["item_id"].to_pylist() == lowest([*items[1], *items[2]])
    assert kept.schema.field("vector").type == pa.list_(pa.float32(), WIDTH)
