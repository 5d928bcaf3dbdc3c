"""Do both engines read clean print, and does the operator say what the library itself says?"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
from PIL import Image

from tests.packed_files import pdf_of
from tests.servers.require import require_tesseract
from tests.workers.operators.making import flat, opened, view
from tests.workers.test_packed import fetch, items_of
from tests.workers.text import pages
from winnow_storage.blobs import open_store
from winnow_storage.errors import ModelError
from winnow_storage.uri import parse
from winnow_workers.models import tesseract_data
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import Operator
from winnow_workers.operators.ocr import OcrParams
from winnow_workers.text.rapid import engine_params

PAGES = 20
Opened = Callable[[str], Operator[OcrParams]]


@pytest.fixture(scope="module")
def engine() -> Opened:
    """An engine's operator, opened once."""
    ready: dict[str, Operator[Any]] = {}

    def named(model: str) -> Operator[OcrParams]:
        if model.endswith("tesseract"):
            require_tesseract()
        return ready.setdefault(model, opened("ocr", model))

    return named


@pytest.mark.parametrize("model", ["builtin/rapidocr", "builtin/tesseract"])
def test_engine__character_error_on_clean_print(engine: Opened, model: str) -> None:
    printed = [pages.page(seed) for seed in range(PAGES)]
    said = [one.fields["full_text"] for one in engine(model).run([view(pixels) for pixels, _ in printed])]
    assert jiwer.cer([text for _, text in printed], said) <= 0.005


@pytest.mark.parametrize("model", ["builtin/rapidocr", "builtin/tesseract"])
def test_engine__two_columns_one_after_the_other(engine: Opened, model: str) -> None:
    rng = np.random.default_rng(5)
    left, right = ([pages.sentence(rng, 4) for _ in range(4)] for _ in range(2))
    (prediction,) = engine(model).run([view(pages.two_columns(left, right))])
    assert prediction.fields["full_text"] == "\n".join([*left, *right])


def test_rapidocr__pages_of_a_document_are_read_one_by_one(engine: Opened, tmp_path: Path) -> None:
    printed = [pages.page(seed, lines=2) for seed in (40, 41)]
    (tmp_path / "scan.pdf").write_bytes(pdf_of([Image.fromarray(pixels) for pixels, _ in printed]))
    items = items_of(open_store(parse(str(tmp_path))))
    assert list(items) == ["scan.pdf/000001", "scan.pdf/000002"]
    decoded = [fetch(item).decoded for item in items.values()]
    said = engine("builtin/rapidocr").run([view(one.pixels) for one in decoded if one is not None])
    assert [one.fields["full_text"] for one in said] == [text for _, text in printed]


def test_rapidocr__batched_says_what_the_library_says_of_each_page(engine: Opened) -> None:
    from rapidocr import RapidOCR

    library = RapidOCR(params=engine_params(960, 0.3, threads=1) | {"Global.use_cls": False})
    printed = [pages.page(seed, lines=3)[0] for seed in range(30, 34)]
    for pixels, ours in zip(printed, engine("builtin/rapidocr").run([view(one) for one in printed]), strict=True):
        theirs = library(pixels[:, :, ::-1])
        lines = ours.fields["lines"]
        assert [line["text"] for line in lines] == list(theirs.txts)
        assert np.allclose([line["score"] for line in lines], theirs.scores, atol=1e-4)
        assert np.abs(np.array([line["polygon"] for line in lines]).reshape(-1, 4, 2) - theirs.boxes).max() <= 0.5


def test_rapidocr__a_line_in_which_nothing_is_read_is_kept(engine: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = engine("builtin/rapidocr")
    library = operator._engine._engine
    read = library.recognize_txt

    def unreadable_first(crops: list[np.ndarray]) -> Any:
        said = read(crops)
        said.txts, said.scores = (" ", *said.txts[1:]), (0.0, *said.scores[1:])
        return said

    monkeypatch.setattr(library, "recognize_txt", unreadable_first)
    (prediction,) = operator.run([view(pages.printed(["First line", "Second line"]))])
    assert [line["text"] for line in prediction.fields["lines"]] == ["", "Second line"]
    assert prediction.fields["full_text"] == "Second line"
    assert prediction.score == prediction.fields["lines"][1]["score"]


def test_rapidocr__threads_change_no_text_and_no_score() -> None:
    pixels, _ = pages.page(50)
    said = []
    for threads in (1, 2):
        operator = opened("ocr")
        operator.threads = threads
        operator.open()
        said.append(operator.run([view(pixels)])[0])
    one, two = said
    assert one.fields["full_text"] == two.fields["full_text"]
    assert one.score == pytest.approx(two.score, abs=1e-5)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_rapidocr__pages_on_their_side_or_head(quarters: int) -> None:
    lines = ["Window market 12", "Bridge and candle", "Summer letter 345"]
    pixels = np.ascontiguousarray(np.rot90(pages.printed(lines, width=420), quarters))
    (prediction,) = opened("ocr", turned=True).run([view(pixels)])
    assert prediction.fields["full_text"].split("\n") == lines
    first = np.array(prediction.fields["lines"][0]["polygon"]).reshape(4, 2)
    direction = first[1] - first[0]
    assert direction @ [(1, 0), (0, -1), (-1, 0), (0, 1)][quarters] > 0.9 * np.linalg.norm(direction)


def test_tesseract__lines_with_scores_where_the_ink_is(engine: Opened) -> None:
    operator = engine("builtin/tesseract")
    pixels = pages.printed(["Winnow reads 1234", "Total: 56.78 EUR"])
    (prediction,) = operator.run([view(pixels)])
    assert [line["text"] for line in prediction.fields["lines"]] == ["Winnow reads 1234", "Total: 56.78 EUR"]
    assert prediction.score_kind == "min_line_min_word"
    assert prediction.score == min(line["score"] for line in prediction.fields["lines"])
    assert 0.3 < prediction.score <= 1.0
    rows, columns = np.nonzero(pixels[:70, :, 0] < 128)
    corners = np.array(prediction.fields["lines"][0]["polygon"]).reshape(4, 2)
    assert np.abs(corners.min(axis=0) - (columns.min(), rows.min())).max() <= 3
    assert np.abs(corners.max(axis=0) - (columns.max() + 1, rows.max() + 1)).max() <= 3


def direct_lines(pixels: np.ndarray) -> list[tuple[str, float, tuple[int, ...]]]:
    """Of each line its text, its weakest word's confidence over 100, its box: what `tesseract PAGE - tsv` writes."""
    import tesserocr

    (file,) = tesseract_data.traineddata("builtin/tesseract").values()
    with tesserocr.PyTessBaseAPI(path=f"{file.parent}/", lang="eng", oem=tesserocr.OEM.LSTM_ONLY) as library:
        library.SetImage(Image.fromarray(pixels))
        table = [row.split("\t") for row in library.GetTSVText(0).splitlines()]
    lines: dict[tuple[str, ...], list[list[str]]] = {}
    boxes: dict[tuple[str, ...], tuple[int, ...]] = {}
    for row in table:
        left, top, width, height = map(int, row[6:10])
        if row[0] == "4":  # a line; its words, of level 5, follow
            boxes[tuple(row[1:5])] = (left, top, left + width, top + height)
        elif row[0] == "5":
            lines.setdefault(tuple(row[1:5]), []).append(row)
    return [
        (" ".join(word[11] for word in words), min(float(word[10]) for word in words) / 100, boxes[line])
        for line, words in lines.items()
    ]


def test_tesseract__says_what_the_library_says_of_each_page(engine: Opened) -> None:
    printed = [pages.page(seed, lines=3)[0] for seed in range(30, 34)]
    for pixels, ours in zip(printed, engine("builtin/tesseract").run([view(one) for one in printed]), strict=True):
        theirs = direct_lines(pixels)
        lines = ours.fields["lines"]
        assert [line["text"] for line in lines] == [text for text, _, _ in theirs]
        assert [line["score"] for line in lines] == pytest.approx([score for _, score, _ in theirs], abs=1e-4)
        corners = np.array([line["polygon"] for line in lines]).reshape(-1, 4, 2)
        boxes = np.concatenate([corners[:, 0], corners[:, 2]], axis=1)
        assert np.array_equal(boxes, np.array([box for _, _, box in theirs]))


@pytest.mark.parametrize("shape", [(30, 40), (1, 1), (4, 900), (900, 4)])
def test_tesseract__no_text_is_no_score(engine: Opened, shape: tuple[int, int]) -> None:
    (prediction,) = engine("builtin/tesseract").run([view(flat((255, 255, 255), height=shape[0], width=shape[1]))])
    assert prediction.fields == {"lines": [], "full_text": "", "cut": 0}
    assert prediction.score is None


def test_tesseract__does_not_turn() -> None:
    require_tesseract()
    with pytest.raises(ModelError, match="does not read turned pages"):
        opened("ocr", "builtin/tesseract", turned=True)


def test_tesseract__is_known_by_version_and_data(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    require_tesseract()
    (file,) = tesseract_data.traineddata("builtin/tesseract").values()
    before = resolve_model("builtin/tesseract").digest
    assert before.startswith(f"builtin:tesseract:{tesseract_data.tesseract_version()}:")
    (tmp_path / "eng.traineddata").write_bytes(file.read_bytes() + b"x")
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    assert resolve_model("builtin/tesseract").digest != before


def test_tesseract__no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tesseract_data, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="tesserocr is not installed") as raised:
        resolve_model("builtin/tesseract")
    assert raised.value.hint == "pip install 'winnow[tesseract]'"


def test_tesseract__no_language(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    (tmp_path / "eng.traineddata").touch()
    with pytest.raises(ModelError, match=r"no language data for chi_sim .*; there is for eng") as raised:
        tesseract_data.traineddata("builtin/tesseract/chi_sim+eng")
    assert raised.value.hint.startswith("apt-get install tesseract-ocr-chi-sim, or set TESSDATA_PREFIX")


def test_tesseract__damaged_data(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    require_tesseract()
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    (tmp_path / "eng.traineddata").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot read the language data"):
        opened("ocr", "builtin/tesseract")


@pytest.mark.parametrize("name", ["builtin/tesseract/../eng", "builtin/tesseract/eng+", "builtin/tesseract/e.g"])
def test_tesseract__a_name_that_is_no_language(name: str) -> None:
    with pytest.raises(ModelError, match="names no language"):
        tesseract_data.languages_of(name)
