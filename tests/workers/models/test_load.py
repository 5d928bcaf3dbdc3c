"""Are weights what their digest says, wherever they come from?"""

import pickle
from pathlib import Path

import pytest
import torch

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_bytes
from winnow_workers.models.cache import cache_folder
from winnow_workers.models.load import cached, load_weights
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.resolve import resolve_model

CARD = ModelCard(architecture="builtin/digit_cnn", labels=("a", "b"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_load_weights__tensors_and_card(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(encode_model({"w": torch.arange(3.0)}, CARD))
    loaded = load_weights(resolve_model(str(path)))
    assert loaded.card == CARD
    assert torch.equal(loaded.tensors["w"], torch.arange(3.0))


def test_load_weights__from_the_cache_when_the_store_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(encode_model({"w": torch.ones(1)}, CARD))
    model = resolve_model(str(path))
    path.unlink()
    assert load_weights(model).card == CARD
    (cache_folder() / model.digest).unlink()
    with pytest.raises(ModelError, match="is not there"):
        load_weights(model)


def test_load_weights__damaged_cache_is_fetched_again(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(encode_model({"w": torch.ones(1)}, CARD))
    model = resolve_model(str(path))
    (cache_folder() / model.digest).write_bytes(b"damaged")
    assert load_weights(model).card == CARD
    assert (cache_folder() / model.digest).read_bytes() == path.read_bytes()


def test_load_weights__replaced_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"one")
    model = resolve_model("builtin/digit_cnn", {"uri": str(path), "sha256": digest_bytes(b"other")})
    with pytest.raises(ModelError) as raised:
        load_weights(model)
    assert digest_bytes(b"one") in raised.value.message
    assert digest_bytes(b"other") in raised.value.message
    assert not cache_folder().exists()


def test_cached__a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert cached(digest_bytes(b"data"), lambda: b"data", where="here") == b"data"


def state_dict_file(folder: Path, content: object) -> tuple[str, dict[str, str]]:
    path = folder / "a.pth"
    torch.save(content, path)
    return "builtin/digit_cnn", {"uri": str(path), "sha256": digest_bytes(path.read_bytes())}


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_load_weights__state_dict(tmp_path: Path, wrapper: str | None) -> None:
    content = {"w": torch.ones(2)}
    loaded = load_weights(resolve_model(*state_dict_file(tmp_path, {wrapper: content} if wrapper else content)))
    assert loaded.card is None
    assert torch.equal(loaded.tensors["w"], torch.ones(2))


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_load_weights__pickled_code_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    model = resolve_model(*state_dict_file(tmp_path, {"w": Evil(target)}))
    with pytest.raises(ModelError, match="cannot be read safely"):
        load_weights(model)
    assert not target.exists()
    pickle.loads(pickle.dumps(Evil(target)))  # the trap works
    assert target.exists()


def test_load_weights__no_state_dict(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no state dict"):
        load_weights(resolve_model(*state_dict_file(tmp_path, [1, 2])))


def test_load_weights__no_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load_weights(resolve_model(str(path)))


def test_encode_model__tied_tensors_are_written_for_each_name(tmp_path: Path) -> None:
    weight = torch.arange(12.0).reshape(3, 4)
    tied = {"a": weight, "b": weight, "turned": weight.T, "part": weight[1:], "own": torch.zeros(2)}
    data = encode_model(tied, CARD)
    (tmp_path / "a.safetensors").write_bytes(data)
    loaded = load_weights(resolve_model(str(tmp_path / "a.safetensors"))).tensors
    assert {name: one.tolist() for name, one in loaded.items()} == {name: one.tolist() for name, one in tied.items()}
    assert encode_model({name: one.clone() for name, one in tied.items()}, CARD) == data
