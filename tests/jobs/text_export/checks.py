"""What do hOCR 1.2 and ALTO 4.2 ask of a file? The rules that need no schema from the network."""

import re
import xml.etree.ElementTree as ET

from winnow_jobs.text_export.alto import NAMESPACE
from winnow_jobs.text_export.page_text import PageText, TextLine

XHTML = "{http://www.w3.org/1999/xhtml}"
A = f"{{{NAMESPACE}}}"

# what ALTO 4.2 lets an element hold, in order, and which attributes it must have
CHILDREN = {
    "alto": "(Description )?(Styles )?(Tags )?Layout ",
    "Description": "MeasurementUnit (sourceImageInformation )?(OCRProcessing )*(Processing )*",
    "sourceImageInformation": "(fileName )?(fileIdentifier )*(documentIdentifier )*",
    "Processing": "(processingCategory )?(processingDateTime )?(processingAgency )?(processingStepDescription )*"
    "(processingStepSettings )?(processingSoftware )?",
    "processingSoftware": "(softwareCreator )?(softwareName )?(softwareVersion )?(applicationDescription )?",
    "Layout": "(Page )+",
    "Page": "(PrintSpace )?",
    "PrintSpace": "(Shape )?(TextBlock )*",
    "TextBlock": "(Shape )?(TextLine )+",
    "TextLine": "(Shape )?(String (SP )?)+(HYP )?",
    "Shape": "Polygon ",
    "String": "",
    "SP": "",
    "Polygon": "",
}
REQUIRED = {"Page": {"ID", "PHYSICAL_IMG_NR"}, "TextBlock": {"ID"}, "String": {"CONTENT"}, "Polygon": {"POINTS"}}
KNOWN = {
    "Page": {"ID", "PHYSICAL_IMG_NR", "WIDTH", "HEIGHT", "PC", "PROCESSINGREFS"},
    "PrintSpace": {"HPOS", "VPOS", "WIDTH", "HEIGHT"},
    "TextBlock": {"ID", "HPOS", "VPOS", "WIDTH", "HEIGHT", "ROTATION"},
    "TextLine": {"ID", "HPOS", "VPOS", "WIDTH", "HEIGHT"},
    "String": {"ID", "CONTENT", "HPOS", "VPOS", "WIDTH", "HEIGHT", "WC"},
    "SP": set(),
    "Polygon": {"POINTS"},
}


def page(*lines: TextLine, key: str = "scans/a.png", score: float | None = 0.5, number: int = 1) -> PageText:
    return PageText("i1", key, f"file:///{key}", number, 400, 500, lines, score, "builtin:x:1", "0001")


def check_alto(data: bytes) -> ET.Element:
    root = ET.fromstring(data)
    ids = [one.get("ID") for one in root.iter() if one.get("ID") is not None]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z_][\w.-]*", name) for name in ids)
    for element in root.iter():
        name = element.tag.removeprefix(A)
        held = "".join(child.tag.removeprefix(A) + " " for child in element)
        if name in CHILDREN:
            assert re.fullmatch(CHILDREN[name], held), (name, held)
        assert REQUIRED.get(name, set()) <= set(element.keys())
        assert set(element.keys()) <= KNOWN.get(name, set(element.keys()))
        for attribute in {"HPOS", "VPOS", "WIDTH", "HEIGHT", "PHYSICAL_IMG_NR", "ROTATION"} & set(element.keys()):
            assert float(element.get(attribute, "")) >= 0
        for attribute in {"WC", "PC"} & set(element.keys()):
            assert 0 <= float(element.get(attribute, "")) <= 1
    assert root.get("SCHEMAVERSION", "").startswith("4.")
    refs = {name for one in root.iter() for name in one.get("PROCESSINGREFS", "").split()}
    assert refs <= set(ids)
    return root


def check_hocr(data: bytes) -> ET.Element:
    root = ET.fromstring(data)
    named = {one.get("name"): one.get("content", "") for one in root.iter(f"{XHTML}meta")}
    assert named["ocr-system"]
    said = set(named["ocr-capabilities"].split())
    classes = [one.get("class", "") for one in root.iter() if one.get("class")]
    assert set(classes) <= said | {"ocr_page"}
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids)) == len(classes)
    for one in root.iter():
        if one.get("class"):
            assert re.search(r"(^|; )bbox \d+ \d+ \d+ \d+(;|$)", one.get("title", ""))
    return root
