"""Is text read, in order, where it stands, and is nothing dropped in silence?"""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.workers.operators.making import flat, opened, view
from winnow_storage.errors import ModelError
from winnow_workers.models.reference import ResolvedModel, Weights
from winnow_workers.operator import Operator
from winnow_workers.operators.ocr import OcrOperator, OcrParams, lay_out

LINES = ["Winnow reads 1234", "Total: 56.78 EUR", "hello world"]


def page(lines: list[str], *, width: int = 480, step: int = 60) -> np.ndarray:
    image = Image.new("RGB", (width, 30 + step * len(lines)), "white")
    draw = ImageDraw.Draw(image)
    for index, line in enumerate(lines):
        draw.text((20, 20 + step * index), line, font=ImageFont.load_default(size=28), fill="black")
    return np.array(image)


@pytest.fixture(scope="module")
def ocr() -> Operator[OcrParams]:
    return opened("ocr")


def test_ocr__lines_in_reading_order_with_scores(ocr: Operator[OcrParams]) -> None:
    (prediction,) = ocr.run([view(page(LINES))])
    lines = prediction.fields["lines"]
    assert [line["text"] for line in lines] == LINES
    assert [line["order"] for line in lines] == [0, 1, 2]
    assert prediction.fields["full_text"] == "\n".join(LINES)
    assert prediction.score == min(line["score"] for line in lines) > 0.9
    assert prediction.score_kind == "min_line_mean_char"


def test_ocr__polygons_hold_the_ink_in_pixels_of_the_full_image(ocr: Operator[OcrParams]) -> None:
    pixels = page(["Winnow"])
    rows, columns = np.nonzero(pixels[:, :, 0] < 128)
    doubled = view(pixels, width_px=pixels.shape[1] * 2, height_px=pixels.shape[0] * 2)
    for one, scale in ((view(pixels), 1), (doubled, 2)):
        (prediction,) = ocr.run([one])
        (line,) = prediction.fields["lines"]
        corners = np.array(line["polygon"]).reshape(4, 2) / scale
        low, high = corners.min(axis=0), corners.max(axis=0)
        assert (low <= (columns.min() + 2, rows.min() + 2)).all()
        assert (high >= (columns.max() - 2, rows.max() - 2)).all()
        assert (low >= (columns.min() - 15, rows.min() - 15)).all()
        assert (high <= (columns.max() + 15, rows.max() + 15)).all()
        assert corners[0, 0] < corners[1, 0]  # clockwise from the top left
        assert corners[0, 1] < corners[3, 1]


@pytest.mark.parametrize("shape", [(30, 40), (1, 1), (4, 900), (900, 4)])
def test_ocr__no_text_is_no_score(ocr: Operator[OcrParams], shape: tuple[int, int]) -> None:
    (prediction,) = ocr.run([view(flat((255, 255, 255), height=shape[0], width=shape[1]))])
    assert prediction.fields == {"lines": [], "full_text": "", "cut": 0}
    assert prediction.score is None


def test_ocr__a_long_strip_is_read(ocr: Operator[OcrParams]) -> None:
    words = "one two three four five six seven eight nine ten eleven twelve"
    (prediction,) = ocr.run([view(page([words], width=1000)[10:60])])
    assert prediction.fields["full_text"].replace(" ", "") == words.replace(" ", "")


def test_ocr__weak_lines_are_kept_unless_asked(ocr: Operator[OcrParams]) -> None:
    faint = np.where(page(LINES) < 128, 225, 250).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 9, faint.shape)
    noisy = np.clip(faint + noise, 0, 255).astype(np.uint8)
    lines = ocr.run([view(noisy)])[0].fields["lines"]
    scores = sorted(line["score"] for line in lines)
    assert scores[0] < scores[-1]
    kept = opened("ocr", min_line_score=scores[-1]).run([view(noisy)])[0].fields
    assert [line["order"] for line in kept["lines"]] == [0]
    assert kept["cut"] == len(lines) - 1


def test_ocr__what_the_detector_hardly_takes_for_text_is_read_or_counted() -> None:
    faint = np.where(page(LINES) < 128, 238, 250) + np.random.default_rng(0).normal(0, 6, page(LINES).shape)
    said = [
        opened("ocr", min_box_score=bound).run([view(np.clip(faint, 0, 255).astype(np.uint8))])[0].fields
        for bound in (0.0, 0.3, 0.5, 0.8, 1.0)
    ]
    everything, counts = len(said[0]["lines"]), [fields["cut"] for fields in said]
    assert [len(fields["lines"]) for fields in said] == [everything - cut for cut in counts]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, everything)
    assert 0 < counts[-2] < everything


def test_ocr__big_pages_are_bounded() -> None:
    canvas = lay_out(view(flat((9, 9, 9), width=3000, height=1000)), max_side_px=1500)
    assert canvas.pixels.shape == (500, 1500, 3)
    thin = lay_out(view(flat((9, 200, 9), width=800, height=2)), max_side_px=1500)
    assert thin.pixels.shape == (100, 800, 3)
    assert (thin.pixels == (9, 200, 9)).all()
    assert thin.top == 49


def test_ocr__turned_lines_when_asked() -> None:
    turned = np.ascontiguousarray(page(["Winnow reads 1234"])[::-1, ::-1])
    (prediction,) = opened("ocr", turned=True).run([view(turned)])
    assert prediction.fields["full_text"] == "Winnow reads 1234"


def test_ocr__other_models_than_pinned() -> None:
    model = ResolvedModel(
        name="builtin/rapidocr",
        architecture="builtin/rapidocr",
        weights=Weights(kind="builtin", sha256="0" * 64),
        digest="builtin:rapidocr:0000",
    )
    with pytest.raises(ModelError, match="brings other models than those that this run is pinned to"):
        OcrOperator(OcrParams(), model, "cpu").open()


def test_ocr__no_engine() -> None:
    with pytest.raises(ModelError, match="is no OCR engine"):
        opened("ocr", "builtin/fingerprint")
