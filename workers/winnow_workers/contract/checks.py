"""What does the pipeline need of an operator? A function for each rule; it yields how it is broken."""

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow_storage.schemas import PREDICTION_COMMON, prediction_type
from winnow_workers.contract.bench import Bench, answers, copies, open_operator, predictions
from winnow_workers.contract.compare import first_difference
from winnow_workers.contract.findings import Problem
from winnow_workers.frontier import TaskFailure, attempt
from winnow_workers.operator import Prediction, View

ROW_BYTES = 4 * 2**20  # a row's limit (design, "Exactly once")
_NO_STATE = "let run() keep nothing from one call to the next, and draw nothing that is not seeded from the image"


def check_description(bench: Bench) -> Iterator[Problem]:
    """`preproc`, `batch_size` and `needed_side_px`."""
    operator = bench.operator
    preproc = attempt(lambda: operator.preproc)
    if not (isinstance(preproc, str) and preproc):
        yield Problem(f"preproc is {_said(preproc)}", "give a short id of what is done to pixels, such as 'rgb-224'")
    size = attempt(lambda: operator.batch_size)
    if not (isinstance(size, int) and size >= 1):
        yield Problem(f"batch_size is {_said(size)}", "give how many images run() takes at once, from 1")
    side = attempt(lambda: operator.needed_side_px)
    if side is not None and not (isinstance(side, int) and side > 0):
        yield Problem(f"needed_side_px is {_said(side)}", "give a number of pixels, or None to see every pixel")


def check_schema(bench: Bench) -> Iterator[Problem]:
    """The fields are columns of their own, always the same, and Parquet can hold them."""
    names = [field.name for field in bench.fields]
    taken = sorted({name for name in names if names.count(name) > 1} | {*names} & {f.name for f in PREDICTION_COMMON})
    if taken:
        yield Problem(f"fields() names {taken[0]!r}, which every prediction has, or twice", "name it otherwise")
    odd = [name for name in names if not name.isidentifier()]
    if odd:
        yield Problem(f"the field {odd[0]!r} cannot be written in SQL as it is", "use letters, digits and _")
    if attempt(bench.operator.fields) != list(bench.fields):
        yield Problem("fields() says something else the second time", "let it depend on parameters and model only")


def check_rows(bench: Bench) -> Iterator[Problem]:
    """Predictions are rows of the schema, whole, and no larger than a row may be."""
    struct = prediction_type(bench.fields)
    wanted = {field.name for field in bench.fields}
    for number, one in enumerate(bench.predictions):
        if {*one.fields} != wanted:
            yield Problem(
                f"image {number}: its prediction has the fields {sorted(one.fields)}, fields() says {sorted(wanted)}",
                "give every field in every prediction, null (None) where there is nothing to say",
            )
            return
        row = {"score": one.score, "score_kind": one.score_kind, "p_ok": one.p_ok, **one.fields}
        written = attempt(lambda row=row: _parquet(row, struct))  # type: ignore[misc]
        if isinstance(written, TaskFailure):
            yield Problem(f"image {number}: {written.error}", "let the values fit the types that fields() names")
            return
        if written > ROW_BYTES:
            yield Problem(f"image {number}: its row takes {written} bytes, over {ROW_BYTES}", "say less of an image")
            return


def check_empty_batch(bench: Bench) -> Iterator[Problem]:
    """No images, no predictions."""
    said = attempt(lambda: list(bench.operator.run([])))
    if said != []:
        yield Problem(f"run([]) gives {_said(said)}", "return one prediction per view: none for none")


def check_batches(bench: Bench) -> Iterator[Problem]:
    """What an image gets does not hang on its neighbours."""
    alone = attempt(lambda: predictions(bench.operator, bench.views, at_once=1))
    yield from _same(alone, bench, "alone in a batch an image gets another prediction", "treat every view by itself")


def check_order(bench: Bench) -> Iterator[Problem]:
    """What an image gets does not hang on its place."""
    turned = attempt(lambda: predictions(bench.operator, bench.views[::-1])[::-1])
    yield from _same(turned, bench, "in another order an image gets another prediction", _NO_STATE)


def check_begun_ahead(bench: Bench) -> Iterator[Problem]:
    """With an accelerator batches are begun with before the one before them is waited for."""
    ahead = attempt(lambda: _ahead(bench))
    yield from _same(
        ahead, bench, "begun before another batch is waited for it says otherwise", "let begin() keep each batch apart"
    )


def _ahead(bench: Bench) -> list[Prediction]:
    size = max(1, bench.operator.batch_size)
    given = copies(bench.views)
    pending = [bench.operator.begin(given[start : start + size]) for start in range(0, len(given), size)]
    return [one for batch in pending for one in batch.collect()]


def check_repeatable(bench: Bench) -> Iterator[Problem]:
    """The same images again, and by another instance that was opened afresh."""
    again = attempt(lambda: predictions(bench.operator, bench.views))
    yield from _same(again, bench, "the same images get other predictions the second time", _NO_STATE)
    other = attempt(lambda: open_operator(bench.task, bench.device))
    if isinstance(other, TaskFailure):
        yield Problem(f"it cannot be opened a second time: {other.error}", "keep nothing outside of the instance")
        return
    afresh = attempt(lambda: predictions(other, bench.views))
    yield from _same(afresh, bench, "opened afresh it says otherwise", "seed what open() draws")
    closed = attempt(other.close)
    if isinstance(closed, TaskFailure):
        yield Problem(f"close() fails: {closed.error}", "let close() only let go of the model")


def check_scores(bench: Bench) -> Iterator[Problem]:
    """A score is a number with a kind, `p_ok` a probability with a calibrator."""
    for number, one in enumerate(bench.predictions):
        if one.score is not None and not np.isfinite(one.score):
            yield Problem(f"image {number}: its score is {one.score}", "give None where there is no score")
        if one.score is not None and not one.score_kind:
            yield Problem(f"image {number}: a score without a score_kind", "name what the score is, such as 'softmax'")
        if one.p_ok is not None and not 0 <= one.p_ok <= 1:
            yield Problem(f"image {number}: p_ok is {one.p_ok}", "p_ok is a probability; put other numbers into score")
        if (one.p_ok is None) != (one.calibrator is None):
            yield Problem(
                f"image {number}: p_ok {one.p_ok} with the calibrator {one.calibrator!r}",
                "leave both None, unless a calibrator of yours gave p_ok: then name it",
            )
    kinds = sorted({one.score_kind for one in bench.predictions if one.score_kind})
    if len(kinds) > 1:
        yield Problem(f"its scores are of different kinds: {', '.join(kinds)}", "give all of a task one score_kind")


def check_pixels(bench: Bench) -> Iterator[Problem]:
    """The pixels belong to all tasks of a job."""
    views = copies(bench.views)
    ran = attempt(lambda: [bench.operator.run([view]) for view in views])
    pairs = zip(views, bench.views, strict=True)
    if any(not np.array_equal(ours.pixels, theirs.pixels) for ours, theirs in pairs):
        yield Problem("it writes into the pixels that it is given", "work on a copy: pixels.copy()")
    for view in views:
        view.pixels.flags.writeable = False
    locked = attempt(lambda: [bench.operator.run([view]) for view in views])
    if isinstance(locked, TaskFailure) and not isinstance(ran, TaskFailure):
        yield Problem(f"pixels that cannot be written to fail: {locked.error}", "work on a copy: pixels.copy()")


def check_bad_image(bench: Bench) -> Iterator[Problem]:
    """One image that it cannot process costs that image only."""
    bad = View(np.zeros((0, 0, 3), np.uint8), 0, 0)
    good = bench.views[:2]
    said = attempt(lambda: answers(bench.operator, [good[0], bad, *good[1:]]))
    if isinstance(said, TaskFailure):
        yield Problem(
            f"an image that it cannot process ends the run: {said.error}",
            "raise a plain exception, or none: those of winnow_storage.errors are about the machine",
        )
        return
    kept = [said[0], *said[2:]]
    failed = next((one for one in kept if isinstance(one, TaskFailure)), None)
    if failed is not None:
        yield Problem(f"beside a bad image a good one fails: {failed.error}", _NO_STATE)
        return
    sound = [one for one in kept if isinstance(one, Prediction)]
    yield from _same(sound, bench, "beside a bad image a good one gets another prediction", _NO_STATE)
    after = attempt(lambda: predictions(bench.operator, good))
    yield from _same(after, bench, "after a bad image a good one gets another prediction", _NO_STATE)


def _same(said: "list[Prediction] | TaskFailure", bench: Bench, what: str, advice: str) -> Iterator[Problem]:
    if isinstance(said, TaskFailure):
        yield Problem(f"{what}: {said.error}", advice)
        return
    difference = first_difference(said, bench.predictions[: len(said)])
    if difference is not None:
        yield Problem(f"{what}: {difference}", advice)


def _parquet(row: dict[str, object], struct: pa.StructType) -> int:
    table = pa.table({"task": pa.array([row], struct)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    pq.read_table(io.BytesIO(buffer.getvalue()))
    return int(table.nbytes)


def _said(value: object) -> str:
    return f"an error: {value.error}" if isinstance(value, TaskFailure) else repr(value)[:80]
