"""Are the files what the formats ask for, whatever the text holds?"""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jobs.text_export.checks import A, check_alto, check_hocr, page
from winnow_jobs.text_export.alto import alto
from winnow_jobs.text_export.hocr import hocr
from winnow_jobs.text_export.page_text import TextLine

UPRIGHT = ((10.0, 20.0), (110.0, 22.0), (110.0, 42.0), (10.0, 40.0))
TURNED = ((200.0, 300.0), (200.0, 100.0), (220.0, 100.0), (220.0, 300.0))  # runs upwards


def test_alto__places_words_and_scores() -> None:
    root = check_alto(alto(page(TextLine("Hello old world", 0.75, UPRIGHT), TextLine("", 0.0, UPRIGHT)), version="1"))
    strings = list(root.iter(f"{A}String"))
    assert [one.get("CONTENT") for one in strings] == ["Hello", "old", "world", ""]
    assert {one.get("WC") for one in strings[:3]} == {"0.7500"}
    assert float(strings[0].get("HPOS", "")) == 10.0
    assert float(strings[0].get("WIDTH", "")) == pytest.approx(100 * 5 / 15, abs=0.05)
    assert float(strings[2].get("HPOS", "")) + float(strings[2].get("WIDTH", "")) == pytest.approx(110, abs=0.1)
    assert next(root.iter(f"{A}Polygon")).get("POINTS") == "10,20 110,22 110,42 10,40"
    assert next(root.iter(f"{A}Page")).get("PC") == "0.5000"


def test_alto__turned_text_in_a_block_of_its_own() -> None:
    root = check_alto(alto(page(TextLine("a b", 0.9, UPRIGHT), TextLine("up wards", 0.9, TURNED)), version="1"))
    assert [block.get("ROTATION") for block in root.iter(f"{A}TextBlock")] == [None, "90"]
    first, second = list(root.iter(f"{A}String"))[2:]
    assert float(first.get("VPOS", "")) > float(second.get("VPOS", ""))  # the text runs upwards
    assert float(first.get("HEIGHT", "")) == pytest.approx(50)


def test_hocr__lines_words_and_properties() -> None:
    lines = TextLine("Hello world", 0.754, UPRIGHT), TextLine("up", None, TURNED), TextLine("", 0.0, UPRIGHT)
    root = check_hocr(hocr(page(*lines, number=3), version="1"))
    (sheet,) = [one for one in root.iter() if one.get("class") == "ocr_page"]
    assert sheet.get("title") == 'image "file:///scans/a.png"; bbox 0 0 400 500; ppageno 2'
    shown = [one for one in root.iter() if one.get("class") == "ocr_line"]
    assert ["".join(one.itertext()).split() for one in shown] == [["Hello", "world"], ["up"], []]
    assert shown[0].get("title") == "bbox 10 20 110 42; poly 10 20 110 22 110 42 10 40; textangle 358.9; x_wconf 75"
    assert "textangle 90" in shown[1].get("title", "")
    assert "x_wconf" not in shown[1].get("title", "")


@pytest.mark.parametrize("write", [hocr, alto])
def test_formats__a_page_without_text(write: object) -> None:
    data = write(page(score=None), version="1")
    (check_alto if write is alto else check_hocr)(data)
    assert b"PC=" not in data


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=30), st.text(max_size=20), st.floats(-1, 2))
def test_formats__any_text_and_any_name(text: str, key: str, score: float) -> None:
    given_page = page(TextLine(text, score, UPRIGHT), key=key.encode("utf-8", "replace").decode(), score=score)
    strings = [one.get("CONTENT") for one in check_alto(alto(given_page, version="1")).iter(f"{A}String")]
    words = [one.text for one in check_hocr(hocr(given_page, version="1")).iter() if one.get("class") == "ocrx_word"]
    unspeakable = r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    expected = [re.sub(unspeakable, "\ufffd", word) for word in text.split()]
    if not re.search(r"[\x1c-\x1f\x85\xa0]", text):  # whitespace to some, to others not
        assert strings == (expected or [""])
        assert words == expected


def test_hocr__a_name_cannot_end_its_property() -> None:
    root = check_hocr(hocr(page(key='a"; bbox 1 2 3 4; x\\'), version="1"))
    (sheet,) = [one for one in root.iter() if one.get("class") == "ocr_page"]
    assert sheet.get("title") == ('image "file:///a\\"%3B bbox 1 2 3 4%3B x\\\\"; bbox 0 0 400 500; ppageno 0')
