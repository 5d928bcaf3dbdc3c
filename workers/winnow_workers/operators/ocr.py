"""Which text stands in an image? Lines with their quadrangles in reading order, by rapidocr or by Tesseract."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_value
from winnow_workers.models.ocr_wheel import wheel_digest
from winnow_workers.models.resolve import RAPIDOCR
from winnow_workers.models.tesseract_data import TESSERACT, is_tesseract, languages_of, tesseract_digest, traineddata
from winnow_workers.operator import Operator, OperatorParams, Prediction, View
from winnow_workers.text.lines import FoundLine, TextEngine
from winnow_workers.text.rapid import RapidEngine
from winnow_workers.text.reading_order import reading_order
from winnow_workers.text.tesseract import TesseractEngine

if TYPE_CHECKING:
    from winnow_workers.operator import PixelsHWC

_MAX_ASPECT = 8  # the detector shrinks the longer side: a longer strip would lose its height
_MIN_SIDE_PX = 32


class OcrParams(OperatorParams):
    """`max_side_px` bounds the image that is read, `detect_side_px` the copy in which rapidocr looks for lines.

    `min_line_score` leaves weaker lines out, `min_box_score` what rapidocr's detector is less sure to be text; both are
    low, so that people see what is missed otherwise, and a row's `cut` counts what they leave out. `turned` also reads
    pages that lie on their side or stand on their head, at the cost of a third model per line (rapidocr alone).
    """

    min_line_score: float = Field(default=0.0, ge=0.0, le=1.0)
    min_box_score: float = Field(default=0.3, ge=0.0, le=1.0)  # the library: 0.5; below 0.3 photographs get boxes
    max_side_px: int = Field(default=2000, ge=64, le=8192)
    detect_side_px: int = Field(default=960, ge=64, le=4096)
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Canvas:
    """What the engine reads: BGR, the image scaled by (`scale_x`, `scale_y`) at (`left`, `top`)."""

    pixels: "PixelsHWC"
    left: int
    top: int
    scale_x: float
    scale_y: float


class OcrOperator(Operator[OcrParams]):
    """Detection and recognition one image at a time, on the CPU.

    The image's score is its weakest line's, since one wrong line makes a page wrong; null where nothing was read. What
    a line's score is differs between the engines: `score_kind` says it.
    """

    params_type = OcrParams
    revision = 3
    default_model = RAPIDOCR

    def open(self) -> None:
        """Check what is installed against the pinned digest and start the engine; nothing is downloaded."""
        name = self.model.architecture or ""
        if name == RAPIDOCR:
            installed, what = wheel_digest(), "the installed rapidocr brings other models than those that"
        elif is_tesseract(name):
            installed, what = (
                tesseract_digest(name),
                "the installed Tesseract is another version or has other data than",
            )
        else:
            raise ModelError(
                f"{self.model.name} is no OCR engine",
                hint=f"write model: {RAPIDOCR} or {TESSERACT}, or no model at all",
            )
        if self.model.weights.sha256 != installed:
            raise ModelError(
                f"{what} this run is pinned to",
                hint="install the version that the run began with, or begin another: winnow run --new",
            )
        self._engine = self._start(name)

    def _start(self, name: str) -> TextEngine:
        if name == RAPIDOCR:
            return RapidEngine(
                detect_side_px=self.params.detect_side_px,
                min_box_score=self.params.min_box_score,
                turned=self.params.turned,
                threads=self.threads,
            )
        if self.params.turned:
            raise ModelError(
                f"{self.model.name} does not read turned pages", hint=f"remove turned:, or write model: {RAPIDOCR}"
            )
        files = traineddata(name)
        return TesseractEngine(next(iter(files.values())).parent, languages_of(name), where=self.model.name)

    @property
    def preproc(self) -> str:
        """The id of the two bounds."""
        sides = {"max_side_px": self.params.max_side_px, "detect_side_px": self.params.detect_side_px}
        return f"ocr1-{self.params.max_side_px}-{self.params.detect_side_px}-{digest_value(sides)[:8]}"

    @property
    def needed_side_px(self) -> int | None:
        """The bound of the longer side, which is enough for the shorter."""
        return self.params.max_side_px

    @property
    def batch_size(self) -> int:
        """The engine takes one image at a time."""
        return 8

    def fields(self) -> list[pa.Field]:
        """The lines in reading order, their text, and how many more were found."""
        line = pa.struct(
            [
                pa.field("text", pa.string()),
                pa.field("score", pa.float32()),
                # x, y of four corners, clockwise from where the text begins: the top left one of upright text
                pa.field("polygon", pa.list_(pa.float32(), 8)),
                pa.field("order", pa.int32()),
            ]
        )
        return [
            pa.field("lines", pa.list_(line)),
            pa.field("full_text", pa.string()),
            pa.field("cut", pa.int32()),  # boxes below min_box_score, and lines below min_line_score
        ]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        """The text of every view."""
        return [self._read(view) for view in views]

    def _read(self, view: View) -> Prediction:
        canvas = lay_out(view, max_side_px=self.params.max_side_px)
        read = self._engine.read(canvas.pixels)
        found = [line for line in read.lines if line.score >= self.params.min_line_score]
        lines = [_line(found[index], order, canvas, view) for order, index in enumerate(ordered(found))]
        return Prediction(
            fields={
                "lines": lines,
                "full_text": "\n".join(line["text"] for line in lines if line["text"]),
                "cut": read.cut + len(read.lines) - len(found),
            },
            score=min((line["score"] for line in lines if line["text"]), default=None),
            score_kind=self._engine.score_kind,
        )

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.close()


def ordered(lines: Sequence[FoundLine]) -> list[int]:
    """The indices of the lines in reading order, whatever the order in which the engine found them."""
    return reading_order([line.corners for line in lines])


def _line(line: FoundLine, order: int, canvas: Canvas, view: View) -> dict[str, Any]:
    return {
        "text": line.text,
        "score": line.score,
        "polygon": to_image(line.corners, canvas, view),
        "order": order,
    }


def lay_out(view: View, *, max_side_px: int) -> Canvas:
    """Scale down to the bound, then pad thin images in their own colour until the detector can take them."""
    height, width = view.pixels.shape[:2]
    scale = min(1.0, max_side_px / max(height, width))
    pixels = view.pixels
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    scaled_h, scaled_w = pixels.shape[:2]
    least = max(_MIN_SIDE_PX, -(-max(scaled_h, scaled_w) // _MAX_ASPECT))
    top, left = max(0, least - scaled_h) // 2, max(0, least - scaled_w) // 2
    bottom, right = max(0, least - scaled_h) - top, max(0, least - scaled_w) - left
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    if top or left or bottom or right:
        border = np.concatenate([bgr[0], bgr[-1], bgr[:, 0], bgr[:, -1]])
        colour = [float(value) for value in np.median(border, axis=0)]
        bgr = cv2.copyMakeBorder(bgr, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour)
    return Canvas(bgr, left, top, scaled_w / view.width_px, scaled_h / view.height_px)


def to_image(corners: np.ndarray[Any, np.dtype[np.float64]], canvas: Canvas, view: View) -> list[float]:
    """Four (x, y) corners on the canvas as eight numbers in pixels of the upright image, inside it."""
    x = np.clip((corners[:, 0] - canvas.left) / canvas.scale_x, 0, view.width_px)
    y = np.clip((corners[:, 1] - canvas.top) / canvas.scale_y, 0, view.height_px)
    return [float(value) for value in np.stack([x, y], axis=1).ravel()]
