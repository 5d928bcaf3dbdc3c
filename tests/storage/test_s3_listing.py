"""Is a bucket listed whole and in order, however it is cut, and do its failures come through?"""

import bisect
import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3.session
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.servers.require import require_program
from tests.servers.s3 import INSTALL, S3Server
from tests.servers.scripted import Answer, Request, scripted_server
from winnow_storage import blobs, s3_listing
from winnow_storage.errors import StoreError, StoreUnavailable
from winnow_storage.found import found_batch
from winnow_storage.listing import CorpusSource, stream_corpus
from winnow_storage.retrying import Retrying
from winnow_storage.s3_cuts import ENOUGH, LOOKS, find_cuts
from winnow_storage.s3_listing import ParallelListing
from winnow_storage.s3_pages import Page, S3Pages, columns_of
from winnow_storage.uri import Location, parse

LETTERS = "ab0-.!/ +%&~'\"<>\t\u00e9\u3042\ud7ff\ue000\uff5e\U0001f41f\U0010ffff"
KEYS = st.lists(st.text(LETTERS, min_size=1, max_size=8), max_size=60, unique=True)


class Shelf:
    """Pages over keys in memory: what S3Pages promises, counted."""

    def __init__(self, keys: list[str], page_rows: int = 3) -> None:
        self.keys = sorted(keys)
        self.page_rows = page_rows
        self.asked = 0

    def after(self, key: str) -> Page:
        self.asked += 1
        at = bisect.bisect_right(self.keys, key)
        some = self.keys[at : at + self.page_rows]
        shown = [one for one in some if not one.endswith("/")]
        found = found_batch(shown, ["1"] * len(shown), [1] * len(shown))
        return Page(found, (), some[-1] if some else "", at + len(some) < len(self.keys))

    def folders(self, prefix: str, after: str) -> tuple[tuple[str, ...], bool]:
        self.asked += 1
        below = [key[len(prefix) :] for key in self.keys if key.startswith(prefix) and key > after]
        names = sorted({prefix + rest[: rest.find("/") + 1] if "/" in rest else prefix + rest for rest in below})
        seen = names[: self.page_rows]
        return tuple(name for name in seen if name.endswith("/")), len(seen) < len(names)

    def next_key(self, after: str) -> str | None:
        self.asked += 1
        at = bisect.bisect_right(self.keys, after)
        return self.keys[at] if at < len(self.keys) else None


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Everything that a large corpus does happens to a small one: cuts, files, waiting."""
    for name, value in {"FIRST_CUT_PAGES": 1, "NEXT_CUT_PAGES": 2, "MEMORY_PAGES": 2, "AHEAD_ROWS": 5}.items():
        monkeypatch.setattr(s3_listing, name, value)
    return monkeypatch


def listed(pages: s3_listing.Pages, folder: Path) -> list[str]:
    listing = ParallelListing(pages, folder)
    try:
        return [key for batch in listing.batches() for key in batch.column("key").to_pylist()]
    finally:
        listing.stop()


@pytest.mark.usefixtures("hasty")
@given(keys=KEYS, page_rows=st.integers(1, 9))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts__every_key_once_in_order(keys: list[str], page_rows: int, tmp_path: Path) -> None:
    assert listed(Shelf(keys, page_rows), tmp_path) == sorted(key for key in keys if not key.endswith("/"))
    assert list(tmp_path.iterdir()) == []


@given(keys=KEYS.filter(bool), page_rows=st.integers(1, 9), data=st.data())
@settings(deadline=None)
def test_cuts__lie_between(keys: list[str], page_rows: int, data: st.DataObject) -> None:
    after = data.draw(st.sampled_from(keys))
    end = data.draw(st.none() | st.text(LETTERS, min_size=1, max_size=8).filter(lambda text: text > after))
    shelf = Shelf(keys, page_rows)
    cuts = find_cuts(shelf, after=after, end=end)
    assert cuts == sorted(set(cuts))
    assert len(cuts) <= max(ENOUGH, LOOKS)
    assert all(after < cut and (end is None or cut < end) for cut in cuts)
    assert shelf.asked <= 2 * LOOKS + 10  # the letters' depth is found by halving


@pytest.mark.parametrize(
    ("keys", "folders"),
    [
        ([f"2024/{month:02d}/{day:02d}/{n}.jpg" for month in range(12) for day in range(9) for n in range(3)], True),
        ([f"img-{n:04d}.jpg" for n in range(400)], False),
        ([f"{n:04d}/a.jpg" for n in range(400)], False),
    ],
    ids=["folders", "names", "too many folders"],
)
def test_cuts__make_parts_of_a_kind(keys: list[str], *, folders: bool) -> None:
    cuts = find_cuts(Shelf(keys, 100), after=keys[5], end=None)
    assert len(cuts) >= 3
    assert all(cut.endswith("/") for cut in cuts) == folders
    parts = [sum(low < key <= high for key in keys) for low, high in zip(cuts, [*cuts[1:], "~"], strict=True)]
    assert max(parts) <= len(keys) / 3


def test_parts__are_listed_at_the_same_time(tmp_path: Path) -> None:
    keys = [f"{n % 40:02d}/{n:05d}.jpg" for n in range(40_000)]
    at_once = most = 0

    class Slow(Shelf):
        def after(self, key: str) -> Page:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            time.sleep(0.002)
            at_once -= 1
            return super().after(key)

    shelf = Slow(keys, 200)
    assert listed(shelf, tmp_path) == sorted(keys)
    assert most > 4
    assert shelf.asked < 1.5 * len(keys) / 200


def test_parts__small_ones_are_joined(tmp_path: Path) -> None:
    keys = [f"{n % 30:02d}/{n:05d}.jpg" for n in range(900)]
    shelf = Shelf(keys, 50)
    assert listed(shelf, tmp_path) == sorted(keys)
    assert shelf.asked < 18 + 30


def test_reader__may_stop_early(hasty: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listing = ParallelListing(Shelf([f"{n % 7}/{n:05d}.jpg" for n in range(500)]), tmp_path)
    batches = listing.batches()
    assert next(batches).num_rows == 3
    batches.close()
    listing.stop()


@pytest.mark.parametrize("error", [StoreUnavailable("busy"), ZeroDivisionError()], ids=type)
def test_part__failure_reaches_the_reader(hasty: pytest.MonkeyPatch, error: Exception, tmp_path: Path) -> None:
    class Broken(Shelf):
        def after(self, key: str) -> Page:
            if key > "3":
                raise error
            return super().after(key)

    with pytest.raises(type(error)):
        listed(Broken([f"{n % 7}/{n:05d}.jpg" for n in range(100)]), tmp_path)


def put_all(root: Location, keys: list[str]) -> None:
    store = blobs.open_store(root)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"x"), keys))


@given(keys=st.lists(st.text(LETTERS.replace("\ud7ff", "").replace("\U0010ffff", ""), min_size=1), max_size=80))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("hasty")
def test_bucket__every_key_once_in_order(s3_bucket: str, tmp_path: Path, keys: list[str]) -> None:
    root = parse(f"{s3_bucket}/a b+c")
    put_all(root, keys)  # beside those of the examples before
    put_all(parse(s3_bucket), ["a b+", "a b+c", "a b+c-", "a b+d/a"])
    expected = sorted(info.key for info in blobs.open_store(root).walk())
    assert set(expected) >= {key for key in keys if not key.endswith("/")}
    assert listed(S3Pages(root, page_rows=7), tmp_path) == expected


def test_bucket__more_than_a_page(s3_bucket: str) -> None:
    keys = [f"{n % 3}/{n:05d}.jpg" for n in range(1100)]
    put_all(parse(s3_bucket), keys)
    stream = stream_corpus(CorpusSource("shelves", parse(s3_bucket), ("*.jpg",)))
    assert [key for batch in stream for key in batch.column("key").to_pylist()] == sorted(keys)


def test_bucket__storage_class_is_read(s3_bucket: str) -> None:
    put_all(parse(s3_bucket), ["a.jpg"])
    page = S3Pages(parse(s3_bucket)).after("")
    assert page.found.to_pylist() == [
        {"key": "a.jpg", "version": "9dd4e461268c8034f5c8564e155c67a6", "bytes": 1, "cold": False}
    ]


@contextlib.contextmanager
def gateway_with_class(server: S3Server, storage_class: str) -> Iterator[str]:
    """The URL of a second gateway on the server's objects, one that knows another storage class."""
    place = ("--placement-id=default-placement", f"--storage-class={storage_class}")
    server.admin("zonegroup", "placement", "add", "--rgw-zonegroup=default", *place)
    server.admin("zone", "placement", "add", "--rgw-zone=default", *place, "--data-pool=default.rgw.buckets.data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = (
        f"--rgw_frontends=beast endpoint=127.0.0.1:{port} tcp_nodelay=1",
        "--admin_socket=",
        "--pid_file=",
        "--log_file=",
    )
    program = [require_program("radosgw", INSTALL), "-f", "-c", str(server.config), "--name", "client.rgw.a", *own]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            assert process.poll() is None
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_bucket__cold_objects_are_named(s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway_with_class(s3, "GLACIER") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        client = boto3.session.Session().client("s3")
        for number in range(9):
            storage_class = "GLACIER" if number % 3 else "STANDARD"
            place = {"Bucket": parse(s3_bucket).bucket, "Key": f"{number}.jpg"}
            client.put_object(**place, Body=b"x", StorageClass=storage_class)
        client.close()
        stream = stream_corpus(CorpusSource("shelves", parse(s3_bucket), ("*.jpg",)))
        assert [key for batch in stream for key in batch.column("key").to_pylist()] == ["0.jpg", "3.jpg", "6.jpg"]
    assert (stream.items, stream.others, stream.cold) == (3, 0, 6)
    assert stream.cold_examples == ("1.jpg", "2.jpg", "4.jpg", "5.jpg", "7.jpg")


ENTRY = "<Contents><Key>{}</Key><ETag>&quot;e-2&quot;</ETag><Size>5</Size>{}</Contents>"


def result(*entries: str, truncated: bool = False, space: str = "http://s3.amazonaws.com/doc/2006-03-01/") -> str:
    head = f"<IsTruncated>{str(truncated).lower()}</IsTruncated><EncodingType>url</EncodingType>"
    return f'<ListBucketResult xmlns="{space}">{head}{"".join(entries)}</ListBucketResult>'


def classed(key: str, storage_class: str) -> str:
    return ENTRY.format(key, f"<StorageClass>{storage_class}</StorageClass>")


@pytest.fixture
def answering(aws: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Request], Answer]], Any]]:
    """Start a server that answers as told, and make the AWS settings lead to it."""
    opened = []

    def start(answer: Callable[[Request], Answer]) -> None:
        opened.append(scripted_server(answer))
        aws.setenv("AWS_ENDPOINT_URL", opened[-1].__enter__())

    yield start
    for server in opened:
        server.__exit__(None, None, None)


def page_answered(answering: Callable[..., None], text: str) -> Page:
    answering(lambda _: Answer(200, text.encode()))
    return S3Pages(parse("s3://bucket/p")).after("")


@pytest.mark.parametrize("odd", ["", "<!-- a page that is left to boto3 -->"])
def test_page__cold_classes(answering: Callable[..., None], odd: str) -> None:
    classes = ["GLACIER", "STANDARD", "DEEP_ARCHIVE", "GLACIER_IR", "INTELLIGENT_TIERING", "STANDARD_IA"]
    text = result(odd, *(classed(f"p/{at}", name) for at, name in enumerate(classes)))
    assert (columns_of(text.encode()) is None) == bool(odd)
    page = page_answered(answering, text)
    assert page.found.column("key").to_pylist() == ["0", "1", "2", "3", "4", "5"]
    assert page.found.column("cold").to_pylist() == [True, False, True, False, False, False]
    assert set(page.found.column("version").to_pylist()) == {"e-2"}
    assert set(page.found.column("bytes").to_pylist()) == {5}


@pytest.mark.parametrize("space", ["http://s3.amazonaws.com/doc/2006-03-01/", "http://doc.s3.amazonaws.com/2006-03-01"])
@pytest.mark.parametrize("odd", ["", "<!-- a page that is left to boto3 -->"])
def test_page__encoded_keys_and_folder_markers(answering: Callable[..., None], space: str, odd: str) -> None:
    entries = [classed(key, "STANDARD") for key in ("p/", "p/a+b%2Bc%0A%26%25&apos;&amp;lt;", "p/d/")]
    prefixes = "<CommonPrefixes><Prefix>p/x%2By&apos;/</Prefix></CommonPrefixes>"
    page = page_answered(answering, result(odd, *entries, prefixes, truncated=True, space=space))
    assert page.found.column("key").to_pylist() == ["a b+c\n&%'&lt;"]
    assert (page.folders, page.last, page.more) == (("x+y'/",), "x+y'/", True)


@pytest.mark.parametrize(
    "text",
    [
        result(ENTRY.format("p/a+%2B", ""), classed("p/b", "GLACIER")),  # only one of the rows says its class
        result(classed("p/a &amp; +", "X"), classed("p/b", "GLACIER")).replace("<EncodingType>url</EncodingType>", ""),
        result(classed("p/a+%2B", "X").replace("quot", "#34"), classed("p/b", "GLACIER")),
    ],
)
def test_page__left_to_boto3(answering: Callable[..., None], text: str) -> None:
    page = page_answered(answering, text)
    assert columns_of(text.encode()) is None
    assert page.found.column("key").to_pylist() in (["a +", "b"], ["a & +", "b"])
    assert page.found.column("cold").to_pylist() == [False, True]
    assert page.found.column("version").to_pylist() == ["e-2", "e-2"]


def test_page__without_classes(answering: Callable[..., None]) -> None:
    page = page_answered(answering, result(ENTRY.format("p/a", ""), ENTRY.format("p/b", "")))
    assert page.found.column("cold").to_pylist() == [False, False]


def test_page__empty(answering: Callable[..., None]) -> None:
    page = page_answered(answering, result())
    assert (page.found.num_rows, page.folders, page.last, page.more) == (0, (), "", False)


def keys_of_bucket() -> list[str]:
    stream = stream_corpus(CorpusSource("shelves", parse("s3://bucket"), ("*.jpg",)))
    return [key for batch in stream for key in batch.column("key").to_pylist()]


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Answer(503, b"<Error><Code>SlowDown</Code></Error>"), StoreUnavailable, "SlowDown"),
        (Answer(200, b"<Error><Code>InternalError</Code></Error>"), StoreUnavailable, "InternalError"),
        (Answer(200, result(classed("a.jpg", "X")).encode()[:-40]), StoreUnavailable, "500"),
        (Answer(200), StoreUnavailable, "broke off"),
        (Answer(404, b"<Error><Code>NoSuchBucket</Code></Error>"), StoreError, "NoSuchBucket"),
    ],
)
def test_store__refusal_becomes_error(
    answering: Callable[..., None], answer: Answer, kind: type[StoreError], said: str
) -> None:
    answering(lambda _: answer)
    with pytest.raises(StoreError, match=said) as caught:
        S3Pages(parse("s3://bucket"), retrying=Retrying(sleep=lambda _: None)).after("")
    assert type(caught.value) is kind


def test_store__fails_once(answering: Callable[..., None]) -> None:
    answers = iter([Answer(503), Answer(200), Answer(200, result(classed("a.jpg", "STANDARD")).encode())])
    answering(lambda _: next(answers))
    pages = S3Pages(parse("s3://bucket"), retrying=Retrying(sleep=lambda _: None))
    assert pages.after("").found.column("key").to_pylist() == ["a.jpg"]


def test_store__out_of_order(answering: Callable[..., None]) -> None:
    text = result(classed("b.jpg", "STANDARD"), classed("a.jpg", "STANDARD"))
    answering(lambda _: Answer(200, text.encode()))
    with pytest.raises(StoreError, match=r"'a\.jpg' came after 'b\.jpg'"):
        keys_of_bucket()


def test_store__that_does_not_go_on(answering: Callable[..., None]) -> None:
    answering(lambda _: Answer(200, result(classed("a.jpg", "STANDARD"), truncated=True).encode()))
    with pytest.raises(StoreError, match=r"what follows 'a\.jpg' and answered up to 'a\.jpg'"):
        keys_of_bucket()


def test_store__cold_objects_are_named(answering: Callable[..., None]) -> None:
    entries = [classed(f"{at}.jpg", "GLACIER" if at % 2 else "STANDARD") for at in range(8)]
    answering(lambda _: Answer(200, result(*entries, classed("x.txt", "GLACIER")).encode()))
    stream = stream_corpus(CorpusSource("shelves", parse("s3://bucket"), ("*.jpg",)))
    assert sum(batch.num_rows for batch in stream) == stream.items == 4
    assert (stream.cold, stream.cold_examples) == (4, ("1.jpg", "3.jpg", "5.jpg", "7.jpg"))
    assert stream.others == 1
