import signal
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from winnow_storage.errors import ModelError
from winnow_workers.frontier import IsolatingRunner, TaskFailure
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import Operator, OperatorParams, Prediction, View


class Scripted(Operator[OperatorParams]):
    """Answers with the width of a view; raises where it was told to."""

    params_type = OperatorParams

    def __init__(self, cursed: frozenset[int], batch_size: int) -> None:
        super().__init__(OperatorParams(), resolve_model("builtin/fingerprint"), "cpu")
        self.cursed = cursed
        self.size = batch_size

    def open(self) -> None:
        return

    @property
    def preproc(self) -> str:
        return "none"

    @property
    def batch_size(self) -> int:
        return self.size

    def fields(self) -> list[pa.Field]:
        return [pa.field("width", pa.int64())]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        if any(view.width_px in self.cursed for view in views):
            raise ValueError("cursed")
        return [Prediction({"width": view.width_px}) for view in views]


def views(count: int) -> list[View]:
    pixels = np.zeros((1, 1, 3), np.uint8)
    return [View(pixels, width_px=number, height_px=1) for number in range(count)]


@given(st.integers(0, 40), st.sets(st.integers(0, 39)), st.integers(1, 16))
def test_run__exactly_one_answer_per_view_in_order(count: int, cursed: set[int], batch_size: int) -> None:
    answers = IsolatingRunner("t", Scripted(frozenset(cursed), batch_size)).run(views(count))
    assert len(answers) == count
    for number, answer in enumerate(answers):
        if number in cursed:
            assert answer == TaskFailure("ValueError: cursed")
        else:
            assert isinstance(answer, Prediction)
            assert answer.fields["width"] == number


def test_run__what_is_about_the_environment_is_not_blamed_on_a_view() -> None:
    class Broken(Scripted):
        def run(self, views: Sequence[View]) -> list[Prediction]:
            raise ModelError("the weights went away")

    with pytest.raises(ModelError, match="went away"):
        IsolatingRunner("t", Broken(frozenset(), 4)).run(views(3))


def test_run__an_error_without_words_still_says_its_kind() -> None:
    class Silent(Scripted):
        def run(self, views: Sequence[View]) -> list[Prediction]:
            raise KeyError

    assert IsolatingRunner("t", Silent(frozenset(), 4)).run(views(1)) == [TaskFailure("KeyError")]


@pytest.mark.parametrize("how", ["run(many)", "end(runner.begin(many, most_bytes=1))", "run(many[:1])"])
def test_run__a_lost_device_ends_the_process_and_accuses_no_image(how: str) -> None:
    script = f"""if True:
        import torch
        from tests.workers import test_frontier as here
        class Lost(here.Scripted):
            def begin(self, views):
                raise torch.AcceleratorError(CUDA)
            def run(self, views):
                raise torch.AcceleratorError(CUDA)
        CUDA = "CUDA error: device-side assert triggered"
        many = here.views(4)
        runner = here.IsolatingRunner("t", Lost(frozenset(), 4))
        runner.{how}
        """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGABRT, ended.stderr
    assert "the device is lost: AcceleratorError: CUDA error: device-side assert triggered" in ended.stderr


@pytest.mark.parametrize("kind", ["OutOfMemoryError", "AcceleratorError"])
def test_run__a_device_without_room_is_not_lost(kind: str) -> None:
    class Full(Scripted):
        def run(self, views: Sequence[View]) -> list[Prediction]:
            if len(views) > 1:
                raise getattr(torch, kind)("CUDA error: out of memory")
            return super().run(views)

    answers = IsolatingRunner("t", Full(frozenset(), 4)).run(views(6))
    assert [answer.fields["width"] for answer in answers if isinstance(answer, Prediction)] == [*range(6)]
