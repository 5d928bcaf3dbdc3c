"""`winnow export ocr` over a scanned document: a file a page, from the rows alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.jobs.text_export.checks import XHTML, A, check_alto, check_hocr, page
from tests.packed_files import pdf_of
from tests.workers.pipelines import make_work
from tests.workers.text import pages
from winnow_jobs.cli import main
from winnow_jobs.commands.export import _path
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_results
from winnow_storage.listing import CorpusSource, stream_corpus
from winnow_storage.uri import parse
from winnow_workers.decode import DecodeLimits
from winnow_workers.fetch import Item
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig
from winnow_workers.pipeline import Pipeline, WorkerConfig

TEXTS = [["First page 11", "Window market"], ["Second page 22", "Bridge candle"], ["Third page 33", "Summer letter"]]


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--json"])
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run of `ocr` and `embed` over a PDF of three pages and an image without text."""
    folder = tmp_path_factory.mktemp("export")
    corpus = folder / "corpus"
    corpus.mkdir()
    sheets = [Image.fromarray(pages.printed(text, width=360)) for text in TEXTS]
    (corpus / "scan.pdf").write_bytes(pdf_of(sheets, dpi=100))
    Image.fromarray(np.full((40, 50, 3), 255, np.uint8)).save(corpus / "blank.png")
    listed = stream_corpus(CorpusSource("c", parse(str(corpus)), ("*.pdf", "*.png")))
    items = [Item(**row, tasks=frozenset({"first", "second"})) for batch in listed for row in batch.to_pylist()]
    work = make_work(folder, [], items=items)
    config = WorkerConfig(
        job="test",
        run_id="0001",
        plan_digest="0" * 64,
        output=str(work.output),
        work=work.parts,
        code_version="0",
        tasks=(
            TaskConfig("first", "ocr", resolve_model("builtin/rapidocr"), {}),
            TaskConfig("second", "embed", resolve_model("builtin/fingerprint"), {}),
        ),
        limits=DecodeLimits(),
    )
    pipeline = Pipeline(config)
    pipeline.open()
    pipeline.run_shard(0)
    pipeline.close()
    return work.output


def test_ocr__every_page_of_a_document_is_an_item(output: Path) -> None:
    rows = {row["key"]: row for row in read_results(open_store(parse(str(output))), "0001").to_pylist()}
    for number, text in enumerate(TEXTS, start=1):
        row = rows[f"scan.pdf/{number:06d}"]
        assert row["uri"].endswith(f"scan.pdf#page={number}")
        assert row["first"]["full_text"].split("\n") == text


def test_export__alto(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "alto"
    code, record = run(capsys, "export", "ocr", "0001", "--output", output, "--format", "alto", "--to", to)
    assert (code, record["files"]) == (0, 4)
    root = check_alto((to / "scan.pdf/000002.alto.xml").read_bytes())
    assert [one.get("CONTENT") for one in root.iter(f"{A}String")] == ["Second", "page", "22", "Bridge", "candle"]
    assert next(root.iter(f"{A}Page")).get("PHYSICAL_IMG_NR") == "2"
    assert not list(check_alto((to / "blank.png.alto.xml").read_bytes()).iter(f"{A}TextLine"))


def test_export__one_item_as_hocr(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "hocr"
    code, record = run(
        capsys, "export", "ocr", "0001", "--output", output, "--to", to, "--item", "scan.pdf/000003", "--task", "first"
    )
    assert (code, record["files"]) == (0, 1)
    root = check_hocr((to / "scan.pdf/000003.hocr").read_bytes())
    lines = [one for one in root.iter(f"{XHTML}span") if one.get("class") == "ocr_line"]
    assert [" ".join("".join(line.itertext()).split()) for line in lines] == TEXTS[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--item", "scan.pdf/000009"), "no page that was read is named scan.pdf/000009"),
        (("--task", "second"), "'second' is no task that reads text"),
        (("--run", "0002"), "0001 and --run 0002 are two runs"),
    ],
)
def test_export__what_is_not_there(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code, record = run(capsys, "export", "ocr", "0001", "--output", output, "--to", tmp_path / "x", *arguments)
    assert (code, message in record["error"]) == (2, True), record


def test_export__no_such_run(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = run(capsys, "export", "ocr", "0009", "--output", output, "--to", tmp_path / "x")
    assert code == 2
    assert "0009" in record["error"]


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "a/../../b.png", "/abs.png", "a\\..\\b.png", "nul\x00.png", "x" * 300]
)
def test_export__no_key_leaves_the_folder(tmp_path: Path, key: str) -> None:
    path = _path(tmp_path, page(key=key), ".hocr", taken={})
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert len(path.name.encode()) < 255


def test_export__two_keys_with_one_name(tmp_path: Path) -> None:
    first = _path(tmp_path, page(key="a?.png"), ".hocr", taken={})
    assert _path(tmp_path, page(key="a*.png"), ".hocr", taken={first: "other"}) != first
