"""Are public weights downloaded where a hub can be reached, and is it said plainly where not?"""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_bytes
from winnow_workers.models import hub
from winnow_workers.models.build import build_network, open_network
from winnow_workers.models.cache import cache_folder
from winnow_workers.models.resolve import resolve_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


WEIGHTS = save({name: one.contiguous() for name, one in build_network("timm/test_resnet", {}, n_labels=None, seed=5).state_dict().items()})  # fmt: skip  # noqa: E501


class Hub(BaseHTTPRequestHandler):
    """Serves one file to everyone, except what is named `absent`."""

    def do_GET(self) -> None:
        self.send_response(404 if "absent" in self.path else 200)
        self.end_headers()
        self.wfile.write(WEIGHTS)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hub_address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pretrained__downloaded_pinned_and_cached(hub_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow_workers.models.resolve.pretrained_url", lambda _: f"{hub_address}/model.safetensors")
    model = resolve_model("timm/test_resnet", "pretrained")
    assert (model.weights.kind, model.digest) == ("pretrained", digest_bytes(WEIGHTS))
    (cache_folder() / model.digest).unlink()  # another machine
    network = open_network(model, device="cpu", n_labels=None)
    expected = build_network("timm/test_resnet", {}, n_labels=None, seed=5).state_dict()
    assert all(torch.equal(one, expected[name]) for name, one in network.module.state_dict().items())


def test_download__the_hub_does_not_have_it(hub_address: str) -> None:
    with pytest.raises(ModelError, match="answered 404"):
        hub.download(f"{hub_address}/absent")


def test_download__no_hub_in_reach() -> None:
    with pytest.raises(ModelError, match="cannot reach the hub at http://127"):
        hub.download("http://127.0.0.1:9/model.safetensors")


def test_pretrained_url__by_library() -> None:
    assert hub.pretrained_url("torchvision/squeezenet1_1").endswith(".pth")
    assert hub.pretrained_url("timm/resnet10t").endswith("timm/resnet10t.c3_in1k/resolve/main/model.safetensors")


def test_public_labels__imagenet() -> None:
    for architecture in ("torchvision/squeezenet1_1", "timm/resnet10t"):
        labels = hub.public_labels(architecture, 1000)
        assert labels is not None
        assert labels[0] == "tench"
    assert hub.public_labels("timm/resnet10t", 10) is None
