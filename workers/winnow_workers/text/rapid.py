"""How does rapidocr read a canvas? Its own steps, called one by one, so that nothing is dropped on the way.

Called as a whole the library leaves out weak boxes, weak lines, lines in which nothing was read, and everything past a
thousand outlines. Here weak boxes are counted, and all else is kept. A page's lines are recognised in batches, sorted
by width; never with another page's, since a line's padding, and with it its last digits, follows from its company.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from winnow_workers.models.ocr_wheel import DETECTOR, RECOGNISER, TURNER, wheel_models
from winnow_workers.text.lines import FoundLine, FoundText

if TYPE_CHECKING:
    from winnow_workers.operator import PixelsHWC

_MAX_OUTLINES = 20_000
_TALL = 1.5  # height over width from which the library reads a crop after a quarter turn to the left
_ON_ITS_HEAD = "180"


class RapidEngine:
    """PP-OCRv6 on ONNX Runtime; a line's score is the mean probability of its characters."""

    score_kind = "min_line_mean_char"

    def __init__(self, *, detect_side_px: int, min_box_score: float, turned: bool, threads: int) -> None:
        from rapidocr import RapidOCR
        from rapidocr.main import RapidOCRError

        self._nothing_found = RapidOCRError
        self._turned = turned
        self._engine: Any = RapidOCR(params=engine_params(detect_side_px, 0.0, threads=threads))
        detector = self._engine._load_det_model()  # noqa: SLF001 - the library would load it with the first page
        self._sieve = detector.postprocess_op = _Sieve(detector.postprocess_op, min_box_score)

    def read(self, pixels_bgr: "PixelsHWC") -> FoundText:
        """Detect, crop, turn where asked, recognise."""
        self._sieve.cut = 0
        try:
            crops, found = self._engine.detect_and_crop(pixels_bgr, {})
        except self._nothing_found:
            return FoundText([], self._sieve.cut)
        quarter = [crops_turned(corners) for corners in found.boxes]
        halves = [False] * len(crops)
        if self._turned:
            crops, said = self._engine.cls_and_rotate(crops)
            threshold = self._engine.cfg.Cls.cls_thresh
            halves = [_ON_ITS_HEAD in label and score > threshold for label, score in said.cls_res]
        read = self._engine.recognize_txt(crops)
        lines = [
            FoundLine(text if text.strip() else "", float(score), np.roll(corners, -(quarters + 2 * half), axis=0))
            for text, score, corners, quarters, half in zip(
                read.txts, read.scores, np.asarray(found.boxes, np.float64), quarter, halves, strict=True
            )
        ]
        return FoundText(lines, self._sieve.cut)

    def close(self) -> None:
        """Let go of the sessions."""
        self._engine = None


class _Sieve:
    """The detector's last step, which leaves out boxes below a score and counts them in `cut`.

    Only here: the library sorts the boxes afterwards, and not their scores with them.
    """

    def __init__(self, inner: Any, min_box_score: float) -> None:
        self._inner = inner
        self._min_box_score = min_box_score
        self.cut = 0

    def __call__(self, probabilities: Any, shape: tuple[int, int]) -> tuple[Any, list[float]]:
        """(n, 4, 2) corners and their scores, in the order of the library's own step."""
        corners, scores = self._inner(probabilities, shape)
        kept = np.asarray(scores) >= self._min_box_score
        self.cut += int((~kept).sum())
        return corners[kept], [score for score, keep in zip(scores, kept, strict=True) if keep]


def engine_params(detect_side_px: int, min_box_score: float, *, threads: int) -> dict[str, Any]:
    """What the library is started with; nothing is downloaded."""
    paths = wheel_models()
    engine = "EngineConfig.onnxruntime"
    return {
        "Global.log_level": "error",
        "Global.text_score": 0.0,
        "Global.use_preprocess_img": False,  # `lay_out` scales and pads
        "Global.use_vertical_padding": False,
        "Det.model_path": str(paths[DETECTOR]),
        "Det.limit_type": "max",
        "Det.limit_side_len": detect_side_px,
        "Det.box_thresh": min_box_score,
        "Det.max_candidates": _MAX_OUTLINES,
        "Cls.model_path": str(paths[TURNER]),
        "Rec.model_path": str(paths[RECOGNISER]),
        f"{engine}.intra_op_num_threads": threads,
        f"{engine}.inter_op_num_threads": 1,
    }


def crops_turned(corners: Any) -> int:
    """1 where the library reads the crop of these corners after a quarter turn to the left, else 0.

    The text of such a crop runs downwards: it begins at the second corner.
    """
    points = np.asarray(corners, np.float32)
    width = int(max(np.linalg.norm(points[0] - points[1]), np.linalg.norm(points[2] - points[3])))
    height = int(max(np.linalg.norm(points[0] - points[3]), np.linalg.norm(points[1] - points[2])))
    return int(height >= _TALL * max(width, 1))
