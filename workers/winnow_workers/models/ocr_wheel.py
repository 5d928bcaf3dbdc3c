"""Which OCR models does the installed rapidocr wheel bring? Found without importing it, pinned by one digest."""

from importlib.util import find_spec
from pathlib import Path

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_bytes, digest_value

DETECTOR = "PP-OCRv6_det_small.onnx"
RECOGNISER = "PP-OCRv6_rec_small.onnx"
TURNER = "ch_ppocr_mobile_v2.0_cls_mobile.onnx"  # says whether a line stands upside down


def wheel_models() -> dict[str, Path]:
    """The wheel's model files by name.

    Raises:
        ModelError: rapidocr is not installed, or brings other models than this code knows.
    """
    spec = find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise ModelError("builtin/rapidocr: the package rapidocr is not installed", hint="run: make setup")
    folder = Path(spec.origin).parent / "models"
    models = {name: folder / name for name in (DETECTOR, RECOGNISER, TURNER)}
    absent = [name for name, path in models.items() if not path.is_file()]
    if absent:
        raise ModelError(
            f"builtin/rapidocr: the installed wheel does not bring {', '.join(absent)}",
            hint="install the version that requirements.lock pins: make setup",
        )
    return models


def wheel_digest() -> str:
    """One sha256 over the digests of all model files."""
    return digest_value({name: digest_bytes(path.read_bytes()) for name, path in wheel_models().items()})
