"""Which text stands in an image? Lines with their quadrangles, by rapidocr with the models that its wheel brings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_value
from winnow_workers.models.ocr_wheel import DETECTOR, RECOGNISER, TURNER, wheel_digest, wheel_models
from winnow_workers.models.resolve import RAPIDOCR
from winnow_workers.operator import Operator, OperatorParams, Prediction, View

if TYPE_CHECKING:
    from winnow_workers.operator import PixelsHWC

_BOX_SCORE = 0.3  # of a detected box; the library's 0.5 drops faint lines before anyone sees them
_MAX_ASPECT = 8  # the detector shrinks the longer side: a longer strip would lose its height
_MIN_SIDE_PX = 32


class OcrParams(OperatorParams):
    """`max_side_px` bounds the image that is read, `detect_side_px` the copy in which lines are looked for.

    `min_line_score` leaves weaker lines out; `upside_down` also reads lines that stand on their head, at the cost of
    a third model per line; `threads` are the engine's own.
    """

    min_line_score: float = Field(default=0.0, ge=0.0, le=1.0)
    max_side_px: int = Field(default=2000, ge=64, le=8192)
    detect_side_px: int = Field(default=960, ge=64, le=4096)
    upside_down: bool = False
    threads: int = Field(default=1, ge=1, le=64)


@dataclass(frozen=True, slots=True)
class Canvas:
    """What the engine reads: BGR, the image scaled by (`scale_x`, `scale_y`) at (`left`, `top`)."""

    pixels: "PixelsHWC"
    left: int
    top: int
    scale_x: float
    scale_y: float


class OcrOperator(Operator[OcrParams]):
    """Detection and recognition one image at a time, on the CPU; a line's score is the mean of its characters'.

    The image's score is that of its weakest line, null where there is no text.
    """

    params_type = OcrParams
    default_model = RAPIDOCR

    def open(self) -> None:
        """Check the wheel's models against the pinned digest and start the engine; nothing is downloaded."""
        if self.model.architecture != RAPIDOCR:
            raise ModelError(f"{self.model.name} is no OCR engine", hint=f"write model: {RAPIDOCR}, or no model at all")
        if self.model.weights.sha256 != wheel_digest():
            raise ModelError(
                "the installed rapidocr brings other models than those that this run is pinned to",
                hint="install the version that the run began with, or begin another: winnow run --new",
            )
        from rapidocr import RapidOCR

        paths = wheel_models()
        engine = "EngineConfig.onnxruntime"
        self._engine = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.text_score": 0.0,  # every line is kept here; min_line_score decides
                "Global.use_cls": self.params.upside_down,
                "Global.use_preprocess_img": False,  # `lay_out` scales and pads
                "Global.use_vertical_padding": False,
                "Det.model_path": str(paths[DETECTOR]),
                "Det.limit_type": "max",
                "Det.limit_side_len": self.params.detect_side_px,
                "Det.box_thresh": _BOX_SCORE,
                "Cls.model_path": str(paths[TURNER]),
                "Rec.model_path": str(paths[RECOGNISER]),
                f"{engine}.intra_op_num_threads": self.params.threads,
                f"{engine}.inter_op_num_threads": 1,
            }
        )

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
        """The lines in reading order, and their text."""
        line = pa.struct(
            [
                pa.field("text", pa.string()),
                pa.field("score", pa.float32()),
                pa.field("polygon", pa.list_(pa.float32(), 8)),  # x, y of four corners, clockwise from the top left
                pa.field("order", pa.int32()),
            ]
        )
        return [pa.field("lines", pa.list_(line)), pa.field("full_text", pa.string())]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        """The text of every view."""
        return [self._read(view) for view in views]

    def _read(self, view: View) -> Prediction:
        canvas = lay_out(view, max_side_px=self.params.max_side_px)
        found = self._engine(canvas.pixels)
        lines: list[dict[str, Any]] = []
        # without any text the engine answers an empty record of another shape
        if getattr(found, "txts", None) is not None and found.boxes is not None:
            for text, score, corners in zip(found.txts, found.scores, found.boxes, strict=True):
                if score < self.params.min_line_score:
                    continue
                polygon = to_image(np.asarray(corners, np.float64), canvas, view)
                lines.append({"text": text, "score": float(score), "polygon": polygon, "order": len(lines)})
        return Prediction(
            fields={"lines": lines, "full_text": "\n".join(line["text"] for line in lines)},
            score=min((line["score"] for line in lines), default=None),
            score_kind="min_line_mean_char",
        )


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
