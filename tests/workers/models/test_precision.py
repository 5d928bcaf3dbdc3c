"""Does a network run in bfloat16 only where that was asked for and answers like float32?"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.operators.making import flat, view
from winnow_storage.errors import ModelError
from winnow_workers.catalogue import operator_named
from winnow_workers.models import precision
from winnow_workers.models.agreement import Compares
from winnow_workers.models.batch_size import CPU_MOST, CPU_WORTH_IMAGES
from winnow_workers.models.fixed_batch import CPU_BATCH, FixedBatch
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.precision import Precision, TorchParams, Wanted, open_batch, precision_id
from winnow_workers.models.reference import ResolvedModel, Weights
from winnow_workers.models.resolve import resolve_model
from winnow_workers.models.sample_images import sample_images
from winnow_workers.operator import Operator, OperatorParams

INPUT = Preprocessing(height_px=8, width_px=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

MODEL = ResolvedModel(name="some/net", architecture=None, weights=Weights(kind="random", seed=1), digest="random:1")


class Seen(torch.nn.Module):
    """A convolution whose two outputs differ by `gap`, and the dtypes that it gave."""

    def __init__(self, gap: float, *, dense: bool = False) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []
        self.conv = torch.nn.Conv2d(3, 2, 1)
        self.dense = dense
        with torch.no_grad():
            self.conv.weight.fill_(1.0)
            self.conv.bias.copy_(torch.tensor([8.0, 8.0 + gap]))  # type: ignore[union-attr]

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        answers = self.conv(images_nchw)
        self.dtypes.append(answers.dtype)
        return answers if self.dense else answers[:, :, 0, 0]


class Broken(torch.nn.Module):
    """Knows float32 only."""

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("not implemented for 'BFloat16'")
        return images_nchw.mean(dim=(2, 3))


def wanted(asked: Precision, compares: Compares = "choice") -> Wanted:
    return Wanted(asked, INPUT, compares, MODEL)


def many(asked: Precision) -> Wanted:
    return replace(wanted(asked), images=CPU_WORTH_IMAGES)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)


def test_open_batch__float32_unless_asked_for() -> None:
    net = Seen(1.0)
    batch = open_batch(net, "cpu", wanted("fp32"))
    batch([torch.zeros(3, 8, 8)])
    assert (batch.precision, set(net.dtypes)) == ("fp32", {torch.float32})
    assert precision_id("p1", batch) == "p1"


@pytest.mark.parametrize("dense", [False, True])
def test_open_batch__bfloat16(dense: bool) -> None:
    net = Seen(1.0, dense=dense)
    batch = open_batch(net, "cpu", wanted("bf16"))
    net.dtypes.clear()
    (answer,) = batch([torch.zeros(3, 8, 8)])
    assert net.dtypes == [torch.bfloat16]
    assert answer.dtype == torch.float32
    assert precision_id("p1", batch) == "p1-bf16"


def test_open_batch__too_coarse() -> None:
    """A gap of 0.01 at 8 is below bfloat16's step of 0.03: the first of the two is chosen instead of the second."""
    with pytest.raises(
        ModelError, match=r"some/net: in bfloat16 on cpu .*% of the choices are those of float32"
    ) as raised:
        open_batch(Seen(0.01), "cpu", wanted("bf16"))
    assert (raised.value.hint or "").startswith("write precision: fp32 in this task, or auto")
    assert open_batch(Seen(0.01), "cpu", wanted("bf16", "direction")).precision == "bf16"  # as a vector it is the same


def test_open_batch__cannot_run() -> None:
    with pytest.raises(ModelError, match="it cannot run in bfloat16 on cpu: not implemented"):
        open_batch(Broken(), "cpu", wanted("bf16"))


@pytest.mark.usefixtures("native")
def test_open_batch__auto_by_what_is_measured() -> None:
    assert open_batch(Seen(1.0), "cpu", wanted("auto")).precision == "bf16"
    assert open_batch(Seen(0.01), "cpu", wanted("auto")).precision == "fp32"
    assert open_batch(Broken(), "cpu", wanted("auto")).precision == "fp32"


def test_open_batch__auto_without_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    net = Seen(1.0)
    assert open_batch(net, "cpu", wanted("auto")).precision == "fp32"
    assert net.dtypes == []  # nothing was tried


def test_open_batch__an_error_of_float32_is_not_blamed_on_bfloat16() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        open_batch(torch.nn.Conv2d(1, 2, 1), "cpu", wanted("bf16"))


def test_settle_size__once_per_model_and_precision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "CPU_MOST", 256)
    monkeypatch.setattr(precision, "measured_rate", lambda batch, image, size: float(min(size, 32)))
    first, second, third = (FixedBatch(Seen(1.0), "cpu", INPUT) for _ in range(3))
    precision._settle_size(first, many("fp32"))
    monkeypatch.setattr(precision, "measured_rate", lambda batch, image, size: float(min(size, 64)))
    precision._settle_size(second, many("fp32"))
    third.precision = "bf16"
    precision._settle_size(third, many("bf16"))
    assert [one.size for one in (first, second, third)] == [32, 32, 64]


def test_settle_size__on_a_cpu_where_a_run_is_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tried: list[int] = []

    def rate(batch: FixedBatch, image: torch.Tensor, size: int) -> float:
        tried.append(size)
        return float(size)

    monkeypatch.setattr(precision, "measured_rate", rate)
    few = wanted("fp32")
    assert open_batch(Seen(1.0), "cpu", few).size == CPU_BATCH
    assert tried == []
    assert open_batch(Seen(1.0), "cpu", many("fp32")).size == CPU_MOST
    assert tried == [CPU_BATCH, CPU_MOST]
    assert open_batch(Seen(1.0), "cpu", few).size == CPU_MOST  # what is known serves the smallest run
    assert open_batch(Seen(1.0), "cpu", replace(few, threads=2)).size == CPU_BATCH  # of another number of threads
    assert tried == [CPU_BATCH, CPU_MOST]


def test_settle_size__where_memory_runs_out_the_next_process_begins_smaller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Roomy(torch.nn.Module):
        def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
            if len(images_nchw) > 8:
                raise torch.OutOfMemoryError("no room")
            return images_nchw.mean(dim=(1, 2, 3))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "CPU_MOST", 256)
    # on a device that others used less when it was measured
    monkeypatch.setattr(precision, "measured_rate", lambda batch, image, size: float(min(size, 32)))
    first, second = (FixedBatch(Roomy(), "cpu", INPUT) for _ in range(2))
    precision._settle_size(first, many("fp32"))
    assert first.size == 32
    assert len(first([torch.zeros(3, 8, 8)] * 20)) == 20
    precision._settle_size(second, many("fp32"))
    assert (first.size, second.size) == (8, 8)


def test_sample_images__the_same_ones_and_all_different() -> None:
    images = sample_images(8)
    assert all(np.array_equal(one, other) for one, other in zip(images, sample_images(8), strict=True))
    assert len({one.tobytes() for one in images}) == 8
    assert {(one.shape, one.dtype) for one in images} == {((256, 256, 3), np.dtype(np.uint8))}


def test_params__the_default_leaves_no_trace() -> None:
    assert TorchParams().model_dump(mode="json") == {}
    assert TorchParams(precision="auto").model_dump(mode="json") == {"precision": "auto"}
    assert TorchParams.model_validate({}).precision == "fp32"


CASES = {
    "classify": "timm/test_resnet",
    "segment": "builtin/small_unet",
    "anomaly": "builtin/patch_features",
    "embed": "timm/test_resnet",
}


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.usefixtures("native")
def test_operators__say_their_precision(name: str) -> None:
    small = {"height_px": 32, "width_px": 32}
    plain, chosen = (opened(name, CASES[name], asked, input=small) for asked in ("fp32", "auto"))
    assert chosen.preproc in (plain.preproc, f"{plain.preproc}-bf16")
    assert chosen.run([view(flat((0, 90, 200)))])


def test_embed__a_fingerprint_has_no_network() -> None:
    with pytest.raises(ModelError, match="has no network, so precision: bf16 means nothing"):
        opened("embed", "builtin/fingerprint", "bf16")


def opened(name: str, model: str, asked: str, **params: object) -> Operator[OperatorParams]:
    kind = operator_named(name)
    weights = None if model == "builtin/fingerprint" else {"random": 1}
    operator: Operator[OperatorParams] = kind(
        kind.params_type.model_validate({"precision": asked, **params}), resolve_model(model, weights), "cpu"
    )
    operator.open()
    return operator
