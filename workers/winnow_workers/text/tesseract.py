"""How does Tesseract read a canvas? Through its LSTM engine, page by page; its words' confidences make a line's score.

Nothing that one page taught it is used on the next: the adaptive classifier is not part of the LSTM engine.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from winnow_storage.errors import ModelError
from winnow_workers.models.tesseract_data import tesserocr
from winnow_workers.text.lines import FoundLine, FoundText, corners_of

if TYPE_CHECKING:
    from winnow_workers.operator import PixelsHWC

_MARGIN_PX = 16  # of paper around the canvas: text that touches an edge is not found


class TesseractEngine:
    """libtesseract through tesserocr; a line's score is its weakest word's confidence, over 100."""

    score_kind = "min_line_min_word"

    def __init__(self, folder: Path, languages: tuple[str, ...], *, where: str) -> None:
        self._library = tesserocr()
        try:
            self._api: Any = self._library.PyTessBaseAPI(
                path=f"{folder}/",
                lang="+".join(languages),
                oem=self._library.OEM.LSTM_ONLY,
                psm=self._library.PSM.AUTO,
            )
        except RuntimeError as error:
            raise ModelError(
                f"{where}: Tesseract cannot read the language data in {folder}: {error}",
                hint="install the data again; only data with an LSTM model is understood",
            ) from error

    def read(self, pixels_bgr: "PixelsHWC") -> FoundText:
        """Every text line that layout analysis finds; none is left out for being weak."""
        grey = cv2.cvtColor(pixels_bgr, cv2.COLOR_BGR2GRAY)
        margin = _MARGIN_PX
        grey = cv2.copyMakeBorder(grey, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
        height, width = grey.shape
        self._api.SetImageBytes(grey.tobytes(), width, height, 1, width)
        self._api.Recognize()
        lines = self._lines(margin)
        self._api.Clear()
        return FoundText(lines, 0)

    def _lines(self, margin: int) -> list[FoundLine]:
        """Word by word, since a line's score is its weakest word's; what is taken for a picture holds none."""
        lines: list[FoundLine] = []
        level = self._library.RIL
        found = self._api.GetIterator()
        for word in () if found is None else self._library.iterate_level(found, level.WORD):
            if word.Empty(level.WORD):
                continue
            score = max(0.0, word.Confidence(level.WORD) / 100.0)
            if not lines or word.IsAtBeginningOf(level.TEXTLINE):
                corners = corners_of(word.BoundingBox(level.TEXTLINE)) - margin
                lines.append(FoundLine(word.GetUTF8Text(level.TEXTLINE).strip(), score, corners))
            elif score < lines[-1].score:
                lines[-1] = replace(lines[-1], score=score)
        return lines

    def close(self) -> None:
        """Free what the library holds."""
        self._api.End()
