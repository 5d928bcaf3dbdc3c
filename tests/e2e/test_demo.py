"""The demo on a part of its corpus: real models, Ray, Label Studio, a scripted annotator, labels and a report."""

import json
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.demo_assets import demo_corpus_dir, demo_models_dir
from tests.servers.label_studio import label_studio_executable
from winnow_jobs.demo.show import DemoPlaces, demo_session, register_model
from winnow_jobs.events import Event, Note
from winnow_storage.blobs import open_store
from winnow_storage.registry import Registry
from winnow_storage.uri import parse

EVERY = 6


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
    with demo_session(places.root, label_studio_executable(), events.append) as result:
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
    said = [event.text for event in events if isinstance(event, Note)]
    assert not any("training" in text for text in said)  # what is there is used again
