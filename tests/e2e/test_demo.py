"""The demo on a part of its corpora: real models, Ray, Label Studio, a scripted annotator, labels, loop, reports."""

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.demo_assets import demo_corpus_dir, demo_models_dir
from tests.servers.label_studio import label_studio_executable
from winnow_jobs.demo.show import DemoPlaces, demo_session, register_model
from winnow_jobs.demo.show_loop import Scale
from winnow_jobs.events import Event, Note
from winnow_storage.blobs import open_store
from winnow_storage.registry import Registry
from winnow_storage.uri import parse

EVERY = 6
SCALE = Scale(images=300, hidden=120, calibrate=90, budget=110, audit=0.1, max_error=0.2)


@pytest.fixture
def places(tmp_path: Path) -> DemoPlaces:
    """A demo folder that has its models, and every sixth image of each folder of the corpus beside the bad ones."""
    places = DemoPlaces(tmp_path / "demo")
    places.root.mkdir()
    made = demo_corpus_dir()
    truth = pq.read_table(made / "truth.parquet")
    kept = [key for n, key in enumerate(truth["key"].to_pylist()) if n % EVERY == 0 or key.startswith("bad/")]
    pq.write_table(truth.filter(pc.is_in(truth["key"], pa.array(kept))), places.truth)
    for key in kept:
        (places.corpus / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / "corpus" / key, places.corpus / key)
    registry = Registry(open_store(parse(str(places.models))))
    for name in ("digits", "shapes", "textures", "photos"):
        register_model(registry, name, demo_models_dir() / f"{name}.safetensors")
    return places


def test_demo__from_images_to_labels(places: DemoPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", "set by the demo, restored after the test")
    events: list[Event] = []
    with demo_session(places.root, label_studio_executable(), events.append, scale=SCALE) as result:
        record = result.record
        counts = dict(duckdb.sql(f"SELECT outcome, count(*) FROM '{record['results']}' GROUP BY outcome").fetchall())
        assert counts == {name: count for name, count in record["outcomes"].items() if count}
        assert counts["unreadable"] >= 5
        quality = {one["name"]: one for one in record["quality"]}
        assert quality["outcomes as expected"]["value"] == 1.0
        assert set(quality) == {"outcomes as expected", "accuracy", "character error", "mean IoU", "AUROC"}
        assert quality["accuracy"]["value"] >= 0.9
        assert quality["character error"]["value"] <= 0.02
        routes = record["review"]["routes"]
        assert set(routes) == {"kind", "text", "parts", "defect", "vector"}
        assert record["review"]["pushed"] == record["review"]["selected"] > 0
        assert record["labels"] == record["answered"] > 0
        labels = duckdb.sql(f"SELECT DISTINCT label_id, task, value FROM '{record['labels_glob']}'").fetchall()
        assert len(labels) == record["labels"]
        assert all(json.loads(value) is not None for _, _, value in labels)
        page = Path(record["report"]).read_text(encoding="utf-8")
        assert "Measured against the truth" in page
        assert "data:image/jpeg;base64," in page
        shows_the_loop(record["loop"])
    said = [event.text for event in events if isinstance(event, Note)]
    assert not any("training" in text for text in said)  # what is there is used again


def shows_the_loop(record: dict[str, Any]) -> None:
    before, after = record["evaluations"]
    assert (before["name"], after["name"], after["n"]) == ("before", "after", SCALE.hidden)
    assert record["promoted"]
    assert after["right"] > before["right"] + 0.05
    (promise,) = record["promises"]
    evidence = promise["evidence"]
    assert promise["threshold"] is not None
    assert 0 < evidence["labels"] + evidence["set_aside"] <= SCALE.calibrate
    assert evidence["bound"] <= SCALE.max_error
    assert record["accepted"]["of"] == SCALE.images
    (audit,) = record["audit"]
    assert 0 < audit["all"]["answered"] <= record["accepted"]["accepted"]
    labels = duckdb.sql(
        f"SELECT count(DISTINCT label_id) FROM '{Path(record['spec']).parent}/output/labels/*.parquet'"
    ).fetchall()
    assert labels == [(record["answered"],)]
    page = Path(record["report"]).read_text(encoding="utf-8")
    assert page.count("<h2>") >= 6
    shares = [f"{100 * one:.{digits}f} %" for one, digits in (
        (before["right"], 1), (after["right"], 1), (evidence["bound"], 2)
    )]  # fmt: skip
    for text in (*shares, "of the accepted were looked at, blind", "Risk and coverage", "models/digit@2"):
        assert text in page
