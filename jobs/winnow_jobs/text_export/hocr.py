"""How is a page's text said in hOCR 1.2?

The format: http://kba.github.io/hocr-spec/1.2/

One XHTML document a page: `ocr_page`, one `ocr_carea`, an `ocr_line` for every line in reading order, with its
quadrangle as `poly`, and `ocrx_word`s. Coordinates are whole pixels of the upright image. A word's confidence is its
line's; its box is its share of the line's.
"""

import xml.etree.ElementTree as ET
from math import ceil, floor

from winnow_jobs.text_export.page_text import BoxXYXYPx, PageText, TextLine, box_around, box_of, speakable

_XHTML = "http://www.w3.org/1999/xhtml"
_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
    '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
)


def hocr(page: PageText, *, version: str) -> bytes:
    """The document of one page, UTF-8."""
    html = ET.Element("html", {"xmlns": _XHTML})
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "title").text = speakable(page.key)
    ET.SubElement(head, "meta", {"http-equiv": "Content-Type", "content": "text/html; charset=utf-8"})
    ET.SubElement(head, "meta", {"name": "ocr-system", "content": speakable(f"winnow {version}, {page.model}")})
    classes = "ocr_page ocr_carea ocr_line ocrx_word ocrp_poly ocrp_wconf"
    ET.SubElement(head, "meta", {"name": "ocr-capabilities", "content": classes})
    body = ET.SubElement(html, "body")
    whole = (0.0, 0.0, float(page.width_px), float(page.height_px))
    title = f"image {_quoted(page.uri)}; {_bbox(whole)}; ppageno {page.number - 1}"
    sheet = ET.SubElement(body, "div", {"class": "ocr_page", "id": f"page_{page.number}", "title": title})
    if page.lines:
        name = f"block_{page.number}_1"
        area = ET.SubElement(sheet, "div", {"class": "ocr_carea", "id": name, "title": _bbox(box_around(page.lines))})
        for index, line in enumerate(page.lines, start=1):
            _add_line(area, line, f"{page.number}_{index}")
    ET.indent(html)
    return (_HEAD + ET.tostring(html, encoding="unicode") + "\n").encode()


def _add_line(area: ET.Element, line: TextLine, number: str) -> None:
    confidence = "" if line.score is None else f"; x_wconf {round(100 * min(1.0, max(0.0, line.score)))}"
    poly = " ".join(f"{round(x)} {round(y)}" for x, y in line.corners)
    angle = round(line.angle_deg, 1) % 360.0
    turned = f"; textangle {angle:g}" if angle else ""
    title = f"{_bbox(box_of(line.corners))}; poly {poly}{turned}{confidence}"
    element = ET.SubElement(area, "span", {"class": "ocr_line", "id": f"line_{number}", "title": title})
    last: ET.Element | None = None
    for index, word in enumerate(line.words(), start=1):
        if last is not None:
            last.tail = " "
        last = ET.SubElement(
            element,
            "span",
            {
                "class": "ocrx_word",
                "id": f"word_{number}_{index}",
                "title": f"{_bbox(box_of(word.corners))}{confidence}",
            },
        )
        last.text = speakable(word.text)


def _bbox(box: BoxXYXYPx) -> str:
    left, top, right, bottom = box
    return f"bbox {floor(left)} {floor(top)} {ceil(right)} {ceil(bottom)}"


def _quoted(uri: str) -> str:
    """A delimited string: quotes and backslashes are escaped, and so is what would end the property."""
    return '"' + speakable(uri).replace("\\", "\\\\").replace('"', '\\"').replace(";", "%3B") + '"'
