"""`decode` and `corpus.tiff_pages`: through the spec into the plan, the digests, the workers and winnow doctor."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.jobs.test_spec_source import load, message
from winnow_jobs import doctor
from winnow_jobs.doctor import an_image
from winnow_jobs.resolved import ResolvedSpec, differences, resolve_spec
from winnow_storage.errors import SpecError
from winnow_workers.decode import DecodeSettings
from winnow_workers.pipeline import Pipeline, WorkerConfig

BASE = """\
name: scans
corpus: {{uri: photos{pages}}}
output: out
ledger: sqlite:///{folder}/ledger.db
tasks:
  - {{name: vector, operator: embed, model: builtin/fingerprint}}
{more}"""
GREEN = 'decode: {background: "#00FF00"}\n'


def text(folder: Path, *, pages: str = "", more: str = "") -> str:
    return BASE.format(folder=folder, pages=pages, more=more)


def resolved(folder: Path, *, pages: str = "", more: str = "") -> ResolvedSpec:
    return resolve_spec(load(folder, text(folder, pages=pages, more=more)))


def test_decode__is_part_of_every_digest_once_it_is_chosen(tmp_path: Path) -> None:
    plain, white = resolved(tmp_path), resolved(tmp_path, more='decode: {background: "#FFFFFF"}\n')
    green = resolved(tmp_path, more=GREEN)
    assert green.decode == DecodeSettings(background="#00ff00")  # one way to write a colour
    assert plain.tasks[0].digest == white.tasks[0].digest != green.tasks[0].digest
    assert differences(green.identity(), plain.identity()) == ["decode.background: #ffffff -> #00ff00"]
    again = ResolvedSpec.model_validate_json(green.model_dump_json())  # as a plan holds it
    assert again.tasks[0].digest == green.tasks[0].digest


def test_tiff_pages__decides_the_items_and_no_digest(tmp_path: Path) -> None:
    first, every = resolved(tmp_path), resolved(tmp_path, pages=", tiff_pages: every")
    assert (first.corpus.source.tiff_pages, every.corpus.source.tiff_pages) == (False, True)
    assert first.tasks[0].digest == every.tasks[0].digest
    assert differences(every.identity(), first.identity()) == ["corpus.tiff_pages: first -> every"]
    again = ResolvedSpec.model_validate_json(every.model_dump_json())
    assert again.corpus.source.tiff_pages


@pytest.mark.parametrize(
    ("pages", "more", "said"),
    [
        ("", "decode: {background: green}\n", "/job.yaml:7:22: decode.background: string should match pattern"),
        ("", "decode: {backgroud: '#000000'}\n", "unknown key 'backgroud'; did you mean 'background'?"),
        (", tiff_pages: all", "", "/job.yaml:2:35: corpus.tiff_pages: input should be 'first' or 'every'"),
    ],
)
def test_load_spec__says_what_is_wrong_with_them(tmp_path: Path, pages: str, more: str, said: str) -> None:
    assert said in message(tmp_path, text(tmp_path, pages=pages, more=more))


def test_doctor__looks_at_an_image_with_the_jobs_decode(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(SpecError, match="holds no image"):
        an_image(resolved(tmp_path))
    (tmp_path / "photos/a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(SpecError, match=r"a\.png: damaged png.*none of the first 1 image can be read"):
        an_image(resolved(tmp_path))
    Image.fromarray(np.zeros((3, 5, 4), np.uint8)).save(tmp_path / "photos/clear.png")
    said = an_image(resolved(tmp_path, more=GREEN))
    assert said == "clear.png: png, 5 x 3 px; what is transparent is shown on #00ff00"
    (tmp_path / "photos/a.png").unlink()
    with pytest.raises(SpecError, match="max_pixels"):
        an_image(resolved(tmp_path, more="limits: {max_pixels: 14, formats: [png]}\n"))


def test_doctor__opens_models_with_the_jobs_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[WorkerConfig] = []

    class Watched(Pipeline):
        def __init__(self, config: WorkerConfig) -> None:
            seen.append(config)
            super().__init__(config)

    monkeypatch.setattr(doctor, "Pipeline", Watched)
    spec = resolved(tmp_path, more=GREEN)
    assert "loads" in doctor.model_loads(spec, spec.tasks[0])
    assert [config.decode for config in seen] == [DecodeSettings(background="#00ff00")]
