"""Every operator in one job, over some of each kind of the demo's images and some further photographs."""

import shutil
from pathlib import Path

import pytest

from tests.demo_assets import demo_corpus_dir, demo_models_dir
from tests.e2e.winnow import winnow
from tests.every_operator import checks, further_photographs, image_files, write_job
from winnow_jobs.demo.show import register_model
from winnow_storage.blobs import open_store
from winnow_storage.registry import Registry
from winnow_storage.uri import parse

OF_EACH, FURTHER = 4, 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job, its corpus and its models."""
    made = demo_corpus_dir() / "corpus"
    for place in sorted(one for one in made.iterdir() if one.is_dir()):
        (tmp_path / "corpus" / place.name).mkdir(parents=True)
        for file in sorted(one for one in place.iterdir() if one.is_file())[:OF_EACH]:
            shutil.copy(file, tmp_path / "corpus" / place.name / file.name)
    further_photographs(tmp_path / "corpus/further", FURTHER)
    registry = Registry(open_store(parse(str(tmp_path / "models"))))
    for name in ("digits", "shapes", "textures", "photos"):
        register_model(registry, name, demo_models_dir() / f"{name}.safetensors")
    return tmp_path


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own, of numpy 2
def test_run__every_operator_in_one_job(folder: Path) -> None:
    files = image_files(folder / "corpus")
    ended = winnow("run", write_job(folder, folder / "models"), "--json", cwd=folder)
    assert ended.code in (0, 3), ended.err  # some of the demo's images are bad on purpose
    found = checks(folder, ended.record, len(files))
    assert {name: what[:5] for name, what in found.items() if what} == {}
    assert ended.record["outcomes"]["failed"] == 0
    assert set(ended.record["review"]["routes"]) == {"kind", "things", "parts", "text", "defect", "vector"}
    verified = winnow("verify", "--all", folder / "everything.yaml", "--json", cwd=folder)
    assert (verified.code, verified.record["sound"]) == (0, True), verified.out
