"""Does every operator, with every family of loaders, open and predict without a socket?"""

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.contract.operator_cases import CASES
from tests.workers.operators.onnx_files import write_means
from tests.workers.test_preflight import classifier
from winnow_storage.blobs import open_store
from winnow_storage.registry import ONNX, Registry
from winnow_storage.uri import parse
from winnow_workers.catalogue import OPERATORS, operator_named
from winnow_workers.contract.bench import open_operator
from winnow_workers.contract.views import noise_views
from winnow_workers.models.model_file import ModelCard, Preprocessing
from winnow_workers.models.onnx_file import with_card
from winnow_workers.models.resolve import resolve_model


class NetworkTouchedError(BaseException):
    """Not an Exception: what tries a network and goes on without it is found too."""


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        raise NetworkTouchedError(str(arguments))

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):  # a user's shell has neither
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # nothing that an earlier test has kept


def test_no_network__the_guard_sees_a_connection() -> None:
    with socket.socket() as one, pytest.raises(NetworkTouchedError):
        one.connect(("127.0.0.1", 9))
    with pytest.raises(NetworkTouchedError):
        socket.getaddrinfo("localhost", 80)


def test_no_network__all_operators_are_tried() -> None:
    assert {case.operator for case in CASES.values()} == set(OPERATORS)


@pytest.mark.parametrize("case", list(CASES))
def test_no_network__opens_and_predicts(case: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    operator = open_operator(CASES[case].task(case, tmp_path / "model"), "cpu")
    assert len(operator.run(CASES[case].views[:1])) == 1
    operator.close()


@pytest.mark.parametrize("suffix", ["safetensors", "onnx"])
def test_no_network__files_of_the_registry(suffix: str, tmp_path: Path) -> None:
    models = Registry(open_store(parse(str(tmp_path / "registry"))))
    card = ModelCard(
        architecture="builtin/digit_cnn" if suffix == "safetensors" else "onnx/file",
        labels=("r", "g", "b"),
        preprocessing=None if suffix == "safetensors" else Preprocessing(height_px=8, width_px=8),
    )
    if suffix == "onnx":
        data = with_card(Path(write_means(tmp_path / "c.onnx")).read_bytes(), card, where="c.onnx")
        models.add("kind", data, card.model_dump(mode="json"), file=ONNX)
    else:
        data = Path(classifier(tmp_path / "c.safetensors", card.labels, 3)).read_bytes()
        models.add("kind", data, card.model_dump(mode="json"))
    kind = operator_named("classify")
    operator = kind(kind.params_type(), resolve_model("models/kind@1", registry=models), "cpu")
    operator.open()
    assert operator.run(noise_views()[:1])[0].fields["label"] in card.labels
