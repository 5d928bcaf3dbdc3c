"""How is a page's text said in ALTO 4?

The format: https://www.loc.gov/standards/alto/

One document a page, in pixels of the upright image: a `TextBlock` for every run of lines that are turned alike, a
`TextLine` for every line in reading order with its quadrangle as `Shape`, a `String` for every word. A word's
confidence (`WC`) is its line's; its box is its share of the line's. A line in which nothing was read has one empty
`String`.
"""

import itertools
import xml.etree.ElementTree as ET

from winnow_jobs.text_export.page_text import BoxXYXYPx, PageText, TextLine, Word, box_around, box_of, speakable

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-2.xsd"
_VERSION = "4.2"


def alto(page: PageText, *, version: str) -> bytes:
    """The document of one page, UTF-8."""
    root = ET.Element(
        "alto",
        {
            "xmlns": NAMESPACE,
            "xmlns:xsi": _XSI,
            "xsi:schemaLocation": f"{NAMESPACE} {_SCHEMA}",
            "SCHEMAVERSION": _VERSION,
        },
    )
    _describe(root, page, version)
    layout = ET.SubElement(root, "Layout")
    sheet = ET.SubElement(
        layout,
        "Page",
        {
            "ID": f"page_{page.number}",
            "PHYSICAL_IMG_NR": str(page.number),
            "WIDTH": str(page.width_px),
            "HEIGHT": str(page.height_px),
            "PROCESSINGREFS": "ocr",
            **({} if page.score is None else {"PC": _confidence(page.score)}),
        },
    )
    space = ET.SubElement(sheet, "PrintSpace", _place((0.0, 0.0, float(page.width_px), float(page.height_px))))
    numbers = itertools.count(1)
    for block, (angle, lines) in enumerate(itertools.groupby(page.lines, key=_rotation), start=1):
        _add_block(space, list(lines), angle=angle, number=block, numbers=numbers)
    ET.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode").encode() + b"\n"


def _describe(root: ET.Element, page: PageText, version: str) -> None:
    description = ET.SubElement(root, "Description")
    ET.SubElement(description, "MeasurementUnit").text = "pixel"
    source = ET.SubElement(description, "sourceImageInformation")
    ET.SubElement(source, "fileName").text = speakable(page.key)
    ET.SubElement(source, "fileIdentifier").text = speakable(page.uri)
    processing = ET.SubElement(description, "Processing", {"ID": "ocr"})
    ET.SubElement(processing, "processingCategory").text = "contentGeneration"
    settings = f"model {page.model}, run {page.run_id}, item {page.item_id}"
    ET.SubElement(processing, "processingStepSettings").text = speakable(settings)
    software = ET.SubElement(processing, "processingSoftware")
    ET.SubElement(software, "softwareName").text = "winnow"
    ET.SubElement(software, "softwareVersion").text = version


def _add_block(
    space: ET.Element, lines: list[TextLine], *, angle: int, number: int, numbers: "itertools.count[int]"
) -> None:
    place = {"ID": f"block_{number}", **_place(box_around(lines))}
    block = ET.SubElement(space, "TextBlock", place | ({"ROTATION": str(angle)} if angle else {}))
    for line, index in zip(lines, numbers, strict=False):
        element = ET.SubElement(block, "TextLine", {"ID": f"line_{index}", **_place(box_of(line.corners))})
        shape = ET.SubElement(element, "Shape")
        points = " ".join(f"{_number(x)},{_number(y)}" for x, y in line.corners)
        ET.SubElement(shape, "Polygon", {"POINTS": points})
        _add_words(element, line, index)


def _add_words(element: ET.Element, line: TextLine, index: int) -> None:
    confidence = {} if line.score is None else {"WC": _confidence(line.score)}
    for place, word in enumerate(line.words() or [Word("", line.corners)], start=1):
        if place > 1:
            ET.SubElement(element, "SP")
        attributes = {"ID": f"string_{index}_{place}", "CONTENT": speakable(word.text), **_place(box_of(word.corners))}
        ET.SubElement(element, "String", attributes | confidence)


def _rotation(line: TextLine) -> int:
    """Quarter turns alone, in degrees counterclockwise: skew stands in the polygons."""
    return round(line.angle_deg / 90.0) % 4 * 90


def _place(box: BoxXYXYPx) -> dict[str, str]:
    left, top, right, bottom = box
    return {
        "HPOS": _number(left),
        "VPOS": _number(top),
        "WIDTH": _number(right - left),
        "HEIGHT": _number(bottom - top),
    }


def _confidence(score: float) -> str:
    return f"{min(1.0, max(0.0, score)):.4f}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
