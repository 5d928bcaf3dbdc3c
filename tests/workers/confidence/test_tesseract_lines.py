"""P(line exact) of Tesseract's lines: learned from what it read on damaged print, held out on other pages."""

import numpy as np
import pytest

from tests.benchmarks.confidence.hard import Answers, judged, structs_of
from tests.benchmarks.confidence.pages import page
from tests.servers.require import require_tesseract
from tests.workers.operators.making import opened
from winnow_workers.confidence.calibrator import Calibrator, FittedOn, Subject, fit_calibrator
from winnow_workers.confidence.curves import log_loss
from winnow_workers.confidence.parts import Bools, Floats
from winnow_workers.evaluation.calibration_error import expected_calibration_error

PAGES = 160
STRONGEST = 0.35  # of damage: about a quarter of the pages are read wrong


def read(seed: int) -> Answers:
    """What Tesseract says of pages of one to three lines, and whether that is right."""
    require_tesseract()
    operator = opened("ocr", "builtin/tesseract")
    pages = [page(seed, number, STRONGEST, contrast=1.0) for number in range(PAGES)]
    structs = structs_of(operator, [pixels for pixels, _ in pages])
    operator.close()
    return judged("ocr", structs, [{"full_text": text} for _, text in pages])


@pytest.fixture(scope="module")
def both() -> tuple[Calibrator, Answers]:
    """A calibrator, and pages that it has not seen."""
    seen = read(1)
    calibrator = fit_calibrator(
        Subject(task="text", operator="ocr", model="tesseract", task_digest="t"),
        seen.found,
        seen.ok,
        population=seen.found.score,
        fitted_on=FittedOn(labels=0, right=0, runs=(), source="truth"),
    )
    return calibrator, read(2)


def lines(both: tuple[Calibrator, Answers]) -> tuple[Floats, Floats, Bools]:
    """Of every held-out line: its P(exact), Tesseract's own confidence, and whether it is exact."""
    calibrator, held = both
    parts = held.found.parts
    assert calibrator.parts is not None
    assert parts is not None
    assert parts.ok is not None
    return calibrator.parts(parts), parts.columns["score"], parts.ok


def test_lines__p_exact_is_truer_than_tesseracts_own_confidence(both: tuple[Calibrator, Answers]) -> None:
    p_exact, own, exact = lines(both)
    assert len(exact) >= PAGES
    assert 0.03 < 1 - exact.mean() < 0.5
    assert log_loss(p_exact, exact) < 0.8 * log_loss(np.clip(own, 0.001, 0.999), exact)
    assert expected_calibration_error(p_exact, exact) < expected_calibration_error(own, exact)


def test_pages__p_ok_is_of_the_whole_page(both: tuple[Calibrator, Answers]) -> None:
    calibrator, held = both
    p_ok = calibrator.p_ok(held.found)
    known = np.isfinite(p_ok)
    assert known.mean() > 0.9
    assert expected_calibration_error(p_ok[known], held.ok[known]) < 0.12
    unsure, sure = np.array_split(np.flatnonzero(known)[np.argsort(p_ok[known])], 2)
    assert held.ok[unsure].mean() < held.ok[sure].mean()
