"""Is a store that cannot commit once found out, and is it asked only once?"""

import threading
from pathlib import Path

import pytest

from tests.servers.scripted import Answer, Request, scripted_server
from winnow_storage import blobs, probe, uri
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing, StoreError


class Memory:
    """A store in memory. `ignores`: every put overwrites. `late`: these names win every race."""

    def __init__(self, *, ignores: bool = False, late: tuple[bytes, ...] = ()) -> None:
        self.root = uri.parse("/memory")
        self.conditional_puts = True
        self.objects: dict[str, bytes] = {}
        self.ignores = ignores
        self._late = late
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise BlobMissing(key)
        return self.objects[key]

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.ignores or data in self._late:
            self.objects[key] = data
            return True
        with self._lock:
            return self.objects.setdefault(key, data) is data


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    root = str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_bucket")
    return blobs.open_store(uri.parse(root))


def test_require__real_stores_pass_and_are_asked_once(store: BlobStore) -> None:
    probe.require_conditional_puts(store, single_writer=False)
    left = [info.key for info in store.walk(".winnow/probe/")]
    assert len(left) == 5
    assert store.get(".winnow/store.json") == b'{"conditional_put":true}'
    probe.require_conditional_puts(store, single_writer=False)
    assert [info.key for info in store.walk(".winnow/probe/")] == left


def test_probe__puts_that_overwrite() -> None:
    assert not probe.probe_conditional_put(Memory(ignores=True))  # type: ignore[arg-type]


def test_probe__race_with_two_winners() -> None:
    assert probe.probe_conditional_put(Memory())  # type: ignore[arg-type]
    assert not probe.probe_conditional_put(Memory(late=(b"00", b"01")))  # type: ignore[arg-type]


def test_require__refuses_or_trusts_the_spec() -> None:
    store = Memory(ignores=True)
    with pytest.raises(StoreError, match="does not honour conditional puts") as caught:
        probe.require_conditional_puts(store, single_writer=False)  # type: ignore[arg-type]
    assert "output.single_writer: true" in str(caught.value)
    assert caught.value.exit_code == 4
    for standing in (True, False):  # probed a moment ago, or read from the record
        store.conditional_puts = standing
        probe.require_conditional_puts(store, single_writer=True)  # type: ignore[arg-type]
        assert not store.conditional_puts  # so that it looks before it puts
    store.ignores = False  # the record stands until it is deleted
    with pytest.raises(StoreError):
        probe.require_conditional_puts(store, single_writer=False)  # type: ignore[arg-type]
    del store.objects[probe.RECORD]
    store.conditional_puts = True
    probe.require_conditional_puts(store, single_writer=False)  # type: ignore[arg-type]


def test_require__record_is_damaged(store: BlobStore) -> None:
    for damaged in (b"{", b"[]", b"{}"):
        store.put(probe.RECORD, damaged)
        with pytest.raises(StoreError, match=r"store\.json is not what Winnow wrote"):
            probe.require_conditional_puts(store, single_writer=False)


def test_probe__s3_without_conditional_puts(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, bytes] = {}

    def answer(request: Request) -> Answer:
        if "if-none-match" in request.headers:
            return Answer(501, b"<Error><Code>NotImplemented</Code></Error>")
        if request.method == "PUT":
            kept[request.path] = request.body
        if request.method in {"HEAD", "GET"} and request.path != "/bucket" and request.path not in kept:
            return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        return Answer(body=kept[request.path] if request.method == "GET" else b"", headers={"ETag": '"1"'})

    with scripted_server(answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert not probe.probe_conditional_put(blobs.open_store(uri.parse("s3://bucket")))
