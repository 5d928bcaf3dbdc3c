"""Does an item end by what its bytes and the store say of it, and by nothing else? And of which bytes is its row?"""

import errno
import hashlib
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.servers.faulty_s3 import Kind, faulty_s3, first, seeded
from tests.servers.s3 import S3Server
from tests.servers.scripted import refusing_s3
from tests.storage.fake_time import FakeTime
from tests.workers.pipelines import save_image
from winnow_storage.blobs import BlobStore, open_store, uri_of
from winnow_storage.errors import StoreDenied, StoreError
from winnow_storage.ids import digest_bytes, item_id
from winnow_storage.listing import ABSENT
from winnow_storage.s3_store import S3Store
from winnow_storage.uri import Location, parse
from winnow_workers.decode import DecodeLimits
from winnow_workers.fetch import Fetched, Fetcher, Item
from winnow_workers.rows import build_row
from winnow_workers.signals import Missing, OutOfMemory, Rejected, Unavailable, Unreadable
from winnow_workers.throttle import Throttle


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    root = str(tmp_path / "corpus") if request.param == "local" else f"{request.getfixturevalue('s3_bucket')}/corpus"
    return open_store(parse(root))


@pytest.fixture
def image(tmp_path: Path) -> Callable[[int], bytes]:
    return lambda seed: save_image(tmp_path / "made" / f"{seed}.png", seed=seed).read_bytes()


def listed(store: BlobStore, key: str) -> Item:
    """The item as a listing of now would make it."""
    info = store.info(key)
    assert info is not None
    return Item(item_id("c", key), key, uri_of(store.root, key), info.version, info.bytes, frozenset({"t"}))


def fetch(item: Item, *, max_bytes: int = 10**9, open_root: Callable[[Location], BlobStore] = open_store) -> Fetched:
    return Fetcher(DecodeLimits(max_bytes=max_bytes), open_root).fetch(item, needed_side_px=None)


def row_version(fetched: Fetched) -> object:
    return build_row(fetched, {}, operators={}, run_id="0001", shard=0)["version"]


def test_fetch__pixels_digest_and_version(store: BlobStore, image: Callable[[int], bytes]) -> None:
    store.put("a.png", image(1))
    item = listed(store, "a.png")
    fetched = fetch(item)
    assert fetched.signal is None
    assert fetched.decoded is not None
    assert fetched.decoded.pixels.shape == (30, 40, 3)
    assert (fetched.content_sha256, fetched.bytes) == (digest_bytes(image(1)), len(image(1)))
    assert fetched.version == item.version == row_version(fetched)


def test_fetch__object_replaced_since_it_was_listed(store: BlobStore, image: Callable[[int], bytes]) -> None:
    store.put("a.png", image(1))
    item = listed(store, "a.png")
    store.put("a.png", image(2))
    fetched = fetch(item)
    now = listed(store, "a.png")
    assert fetched.signal is None
    assert fetched.content_sha256 == digest_bytes(image(2))
    assert fetched.version == now.version == row_version(fetched)
    assert now.version != item.version


def test_fetch__no_image_still_has_its_version(store: BlobStore) -> None:
    store.put("a.png", b"old text")
    item = listed(store, "a.png")
    store.put("a.png", b"newer text")
    fetched = fetch(item)
    assert isinstance(fetched.signal, Unreadable)
    assert row_version(fetched) == listed(store, "a.png").version != item.version


def test_fetch__gone_since_it_was_listed(store: BlobStore) -> None:
    item = Item("id", "a.png", uri_of(store.root, "a.png"), "v-listed", 10, frozenset())
    store.put("b.png", b"")
    fetched = fetch(item)
    assert isinstance(fetched.signal, Missing)
    assert (fetched.version, row_version(fetched)) == (None, "v-listed")


@pytest.mark.parametrize("lost", ["corpus", "corpus/shelf"])
def test_fetch__folder_that_vanished_is_no_final_outcome(tmp_path: Path, lost: str) -> None:
    store = open_store(parse(str(tmp_path / "corpus")))
    store.put("a.png", b"x")
    store.put("shelf/b.png", b"x")
    item = listed(store, "shelf/b.png")
    place = (tmp_path / lost).rename(tmp_path / "elsewhere")
    for left in ("gone", "empty"):
        if left == "empty":
            (tmp_path / lost).mkdir()
        fetched = fetch(item)
        assert isinstance(fetched.signal, Unavailable), left
        assert f"{tmp_path / 'corpus/shelf'} is gone or empty: is it mounted?" in fetched.signal.reason
    (tmp_path / lost).rmdir()
    place.rename(tmp_path / lost)
    assert isinstance(fetch(item).signal, Unreadable)


def test_fetch__what_a_corpus_file_names_and_never_was(tmp_path: Path) -> None:
    item = Item("id", "a.png", f"file://{tmp_path}/nowhere/a.png", ABSENT, None, frozenset())
    assert isinstance(fetch(item).signal, Missing)


@contextmanager
def nobody(path: Path) -> Iterator[None]:
    """Nothing is allowed on `path`, also if this is root, whom rights do not bind."""
    mode, user = path.stat().st_mode, os.geteuid()
    path.chmod(0o0)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)


def test_fetch__one_file_that_may_not_be_read_does_not_stop_the_run() -> None:
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        store = open_store(parse(outer))
        store.put("shelf/a.png", b"x")
        item = listed(store, "shelf/a.png")
        with nobody(Path(outer, "shelf/a.png")):
            fetched = fetch(item)
        assert isinstance(fetched.signal, Unavailable)
        assert "Permission denied" in fetched.signal.reason
        with nobody(Path(outer, "shelf")), pytest.raises(StoreDenied):
            fetch(item)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EUCLEAN])
def test_fetch__odd_failure_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    store = open_store(parse(str(tmp_path)))
    store.put("a.png", b"x")
    item = listed(store, "a.png")

    def refuse(path: Path, mode: str) -> object:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "open", refuse)
    fetched = fetch(item)
    assert isinstance(fetched.signal, Unavailable)
    assert os.strerror(code) in fetched.signal.reason


AN_OBJECT = Item("id", "a.png", "s3://bucket/a.png", "v", 1, frozenset())


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "InvalidObjectState", "it must be restored from its archive before it can be read"),
        (400, "InvalidRequest", "InvalidRequest (HTTP 400): said so"),  # under a key of the customer's own
        (400, "KMS.DisabledException", "KMS.DisabledException (HTTP 400): said so"),
        (400, "KMS.KMSInvalidStateException", "KMS.KMSInvalidStateException (HTTP 400): said so"),
        (451, "UnavailableForLegalReasons", "UnavailableForLegalReasons (HTTP 451): said so"),
    ],
)
def test_fetch__object_that_the_store_does_not_give_does_not_stop_the_run(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, reason: str
) -> None:
    with refusing_s3(monkeypatch, status, code) as asked:
        signal = fetch(AN_OBJECT).signal
    assert isinstance(signal, Unavailable)
    assert reason in signal.reason
    assert asked == ["GET", "GET"]  # by the short cut, and once more to hear why


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", StoreDenied),
        (401, "Unauthorized", StoreDenied),
        (400, "ExpiredToken", StoreDenied),
        (400, "TokenRefreshRequired", StoreDenied),
        (404, "NoSuchBucket", StoreError),
    ],
)
def test_fetch__what_is_said_of_us_or_of_the_bucket_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, kind: type[StoreError]
) -> None:
    with refusing_s3(monkeypatch, status, code), pytest.raises(StoreError, match=code) as caught:
        fetch(AN_OBJECT)
    assert type(caught.value) is kind


def test_fetch__over_the_limit_is_not_read() -> None:
    def no_store(root: Location) -> BlobStore:
        raise AssertionError(root)

    fetched = fetch(Item("id", "a", "s3://b/a", "v", 11, frozenset()), max_bytes=10, open_root=no_store)
    assert isinstance(fetched.signal, Rejected)
    assert row_version(fetched) == "v"


def test_fetch__length_that_the_listing_contradicts(store: BlobStore, image: Callable[[int], bytes]) -> None:
    store.put("a.png", image(1))
    item = listed(store, "a.png")
    wrong = Item(item.item_id, item.key, item.uri, item.version, len(image(1)) + 1, item.tasks)
    fetched = fetch(wrong)
    assert isinstance(fetched.signal, Unavailable)
    assert "was listed with" in fetched.signal.reason


@contextmanager
def memory_left(left_bytes: int) -> Iterator[None]:
    """This process may map `left_bytes` more and no byte beyond."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + left_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="says how much memory a process has on Linux only")
def test_fetch__image_that_takes_more_memory_than_there_is(tmp_path: Path) -> None:
    store = open_store(parse(str(tmp_path)))
    Image.new("RGB", (8000, 8000)).save(tmp_path / "wide.png")  # 192 MB of pixels
    item = listed(store, "wide.png")
    with memory_left(64 * 2**20):
        fetched = fetch(item)
    assert isinstance(fetched.signal, OutOfMemory)
    assert fetched.signal.outcome == "rejected"
    assert "more memory than there is" in fetched.signal.reason
    assert fetched.version == item.version


def test_fetch__wrong_credentials_stop_the_run(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreDenied):
        fetch(Item("id", "a", f"{s3_bucket}/a", "v", 1, frozenset()))


def test_fetch__bucket_of_somebody_else_stops_the_run(
    s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.admin("user", "create", "--uid=guest", "--display-name=guest", "--access-key=guest", "--secret-key=guest")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "guest")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guest")
    with pytest.raises(StoreDenied):
        fetch(Item("id", "a", f"{s3_bucket}/a", "v", 1, frozenset()))


def patient(root: Location) -> BlobStore:
    return S3Store(root, retrying=FakeTime().retrying())


def test_fetch__a_bad_network_changes_no_outcome(
    s3: S3Server, s3_bucket: str, image: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = S3Store(parse(s3_bucket))
    for number in range(30):
        direct.put(f"{number}.png", image(number))
    items = [listed(direct, f"{number}.png") for number in range(30)]
    items.append(Item("gone", "gone.png", f"{s3_bucket}/gone.png", "v", 1, frozenset()))
    kinds = (Kind.SLOW_DOWN, Kind.RESET_BEFORE, Kind.RESET_AFTER, Kind.LIE, Kind.CUT, Kind.SHORTEN, Kind.CORRUPT)
    with faulty_s3(s3, seeded(3, dict.fromkeys(kinds, 0.1))) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        fetcher = Fetcher(DecodeLimits(), patient)
        fetched = [fetcher.fetch(item, needed_side_px=None) for item in items]
        assert all(proxy.done[kind] > 0 for kind in kinds)
    assert [one.content_sha256 for one in fetched[:-1]] == [digest_bytes(image(number)) for number in range(30)]
    assert [one.version for one in fetched[:-1]] == [item.version for item in items[:-1]]
    assert isinstance(fetched[-1].signal, Missing)


def test_fetch__a_store_that_does_not_recover_is_no_final_outcome(
    s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    S3Store(parse(s3_bucket)).put("a.png", b"x")
    with faulty_s3(s3, first(10**6, Kind.SLOW_DOWN)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        item = Item("id", "a.png", f"{s3_bucket}/a.png", hashlib.md5(b"x").hexdigest(), 1, frozenset())
        fetched = fetch(item, open_root=patient)
        assert proxy.done[Kind.SLOW_DOWN] == 1 + 20  # the short cut is not patient
    assert isinstance(fetched.signal, Unavailable)
    assert "503" in fetched.signal.reason
    assert row_version(fetched) == item.version


def test_fetch__every_request_is_throttled_those_that_are_made_again_too(
    s3: S3Server, s3_bucket: str, image: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, taken = open_store(parse(s3_bucket)), []
    items = []
    for number in range(4):
        store.put(f"{number}.png", image(number))
        items.append(listed(store, f"{number}.png"))
    throttle = Throttle(10**9, None)
    monkeypatch.setattr(throttle, "take", taken.append)
    with faulty_s3(s3, first(1, Kind.CORRUPT, method="GET")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        fetcher = Fetcher(DecodeLimits(), throttle=throttle)
        for item in items:
            assert fetcher.fetch(item, needed_side_px=None).signal is None
    assert proxy.done[Kind.CORRUPT] == len(items)
    assert len(taken) == len(proxy.log) == 2 * len(items)
