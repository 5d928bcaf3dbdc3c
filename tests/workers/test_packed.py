"""Does an item inside of a container give what the same image as a file gives, and end as it must?"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.packed_files import CountingStore, parquet_of, pdf_of, solid, tar_of
from tests.servers.faulty_s3 import Kind, faulty_s3, seeded
from tests.servers.s3 import S3Server
from tests.servers.scripted import refusing_s3
from tests.storage.fake_time import FakeTime
from tests.workers.pipelines import make_work, pipeline_over, save_image
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.dataset import read_results
from winnow_storage.ids import digest_bytes
from winnow_storage.listing import CorpusSource, stream_corpus
from winnow_storage.packed import image_rows, reading
from winnow_storage.s3_store import S3Store
from winnow_storage.schemas import Outcome
from winnow_storage.uri import Location, parse
from winnow_workers.decode import DecodeLimits
from winnow_workers.fetch import Fetched, Fetcher, Item
from winnow_workers.rows import build_row, summarise
from winnow_workers.signals import REPLACED, Missing, Rejected, Unavailable, Unreadable
from winnow_workers.throttle import Throttle

INCLUDE = ("*.png", "*.tar", "*.parquet", "*.pdf")


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    root = str(tmp_path / "corpus") if request.param == "local" else f"{request.getfixturevalue('s3_bucket')}/corpus"
    return open_store(parse(root))


@pytest.fixture
def image(tmp_path: Path) -> Callable[[int], bytes]:
    return lambda seed: save_image(tmp_path / "made" / f"{seed}.png", seed=seed).read_bytes()


def patient(root: Location) -> S3Store:
    return S3Store(root, retrying=FakeTime().retrying())


def items_of(store: BlobStore) -> dict[str, Item]:
    rows = [row for batch in stream_corpus(CorpusSource("c", store.root, INCLUDE)) for row in batch.to_pylist()]
    return {row["key"]: Item(**row, tasks=frozenset({"t"})) for row in rows}


def fetch(item: Item, fetcher: Fetcher | None = None) -> Fetched:
    return (fetcher or Fetcher(DecodeLimits())).fetch(item, needed_side_px=None)


def test_fetch__members_are_the_images_that_were_packed(store: BlobStore, image: Callable[[int], bytes]) -> None:
    images = [image(seed) for seed in range(4)]
    store.put("plain.png", images[0])
    store.put("a.tar", tar_of({f"{number}.png": data for number, data in enumerate(images)}))
    store.put("n.parquet", parquet_of(images, rows=3))
    store.put("f.parquet", parquet_of(images, rows=3, column="a.b", nested=False))
    fetcher = Fetcher(DecodeLimits())
    fetched = {key: fetch(item, fetcher) for key, item in items_of(store).items()}
    assert len(fetched) == 13
    for key, one in fetched.items():
        number = 0 if key == "plain.png" else int(key.rpartition("/")[2].removesuffix(".png"))
        assert one.signal is None, key
        assert one.decoded is not None
        assert np.array_equal(one.decoded.pixels, np.asarray(Image.open(io.BytesIO(images[number]))))
        assert one.content_sha256 == hashlib.sha256(images[number]).hexdigest()
        assert (one.bytes, one.version, one.decoded.format) == (len(images[number]), one.item.version, "png")


def test_fetch__pages_of_a_document(store: BlobStore) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    store.put("a.pdf", pdf_of([solid(colour, (60, 40)) for colour in colours], dpi=100))
    fetched = [fetch(item) for item in items_of(store).values()]
    for one, colour in zip(fetched, colours, strict=True):
        assert one.decoded is not None
        assert (one.decoded.width_px, one.decoded.height_px, one.decoded.format) == (120, 80, "pdf")
        assert np.abs(one.decoded.pixels.astype(int) - colour).max() <= 8
        assert one.bytes is None
    assert len({one.content_sha256 for one in fetched}) == 3


def test_fetch__a_container_that_was_replaced_gives_no_bytes(store: BlobStore, image: Callable[[int], bytes]) -> None:
    made: dict[str, Callable[[int], bytes]] = {
        "a.tar": lambda seed: tar_of({"1.png": image(seed)}),
        "b.parquet": lambda seed: parquet_of([image(seed)]),
        "c.pdf": lambda seed: pdf_of([solid((seed, 0, 0))]),
        "d.tar": lambda seed: b"broken" * seed,
    }
    for key, make in made.items():
        store.put(key, make(1))
    items = items_of(store)
    for key, make in made.items():
        store.put(key, make(2))
    for item in items.values():
        fetched = fetch(item)
        assert isinstance(fetched.signal, Unavailable)
        assert fetched.signal.reason == REPLACED
        assert (fetched.decoded, fetched.version) == (None, None)
    rows = [build_row(fetch(item), {}, operators={}, run_id="0001", shard=0) for item in items.values()]
    counts = summarise(pa.Table.from_pylist(rows), ())
    assert counts.outcomes == {"unavailable": 4}
    assert counts.faults == {}


def test_fetch__a_container_that_is_gone(store: BlobStore, image: Callable[[int], bytes]) -> None:
    store.put("a.tar", tar_of({"1.png": image(1)}))
    item = items_of(store)["a.tar/1.png"]
    for kind, fragment in (("tar", "512-3"), ("tar", ""), ("parquet", "row=0&column=x"), ("pdf", "page=1")):
        gone = replace(item, uri=f"{kind}+{store_uri(store)}/gone#{fragment}")
        assert isinstance(fetch(gone).signal, Missing)


@pytest.mark.parametrize(
    ("kind", "fragment"), [("tar", "512-3"), ("tar", ""), ("parquet", "row=0&column=x"), ("pdf", "page=1")]
)
def test_fetch__a_container_that_the_store_does_not_give(
    monkeypatch: pytest.MonkeyPatch, kind: str, fragment: str
) -> None:
    item = Item("id", "a/1.png", f"{kind}+s3://bucket/a#{fragment}", "v", None, frozenset())
    with refusing_s3(monkeypatch, 400, "InvalidRequest"):
        signal = fetch(item).signal
    assert isinstance(signal, Unavailable)
    assert "InvalidRequest (HTTP 400): said so" in signal.reason


def store_uri(store: BlobStore) -> str:
    return store.root.uri


def test_fetch__what_is_broken_says_why(store: BlobStore, image: Callable[[int], bytes]) -> None:
    archive = tar_of({"1.png": image(1), "2.png": image(2)})
    document = pdf_of([solid((1, 2, 3))])
    store.put("a.tar", b"text" * 500)
    store.put("b.tar", archive.rstrip(b"\0")[:-200])
    store.put("c.parquet", b"PAR1")
    store.put("d.pdf", document[:200])
    store.put("e.parquet", parquet_of([image(1), None]))
    store.put("f.tar", tar_of({"1.png": b"text"}))
    rows = bytearray(parquet_of([image(1), image(2)], rows=1, nested=False))
    rows[rows.index(image(2)[-99:])] ^= 255
    store.put("g.parquet", bytes(rows))
    fetched = {key: fetch(item) for key, item in items_of(store).items()}
    said = {key: one.signal.reason for key, one in fetched.items() if isinstance(one.signal, Unreadable)}
    assert said["a.tar"].startswith("it is no tar archive, or damaged: ")
    assert said["b.tar"].startswith("it is damaged ")
    assert said["c.parquet"].endswith("is no Parquet file, or damaged: Parquet file size is 4 bytes, smaller than the "
                                      "minimum file footer (8 bytes)")  # fmt: skip
    assert said["d.pdf"] == "pdfium: Failed to load document (PDFium: Data format error)."
    assert said["e.parquet/image/0000000001"] == "row 1 of the column 'image' is null"
    assert said["f.tar/1.png"].startswith("no image format that is read here")
    assert said["g.parquet/image/0000000001"].startswith("row group 1 is damaged: ")
    done = {"b.tar/1.png", "e.parquet/image/0000000000", "g.parquet/image/0000000000"}
    assert {key for key, one in fetched.items() if one.signal is None} == done


def test_fetch__limits(store: BlobStore, image: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a.tar", tar_of({"1.png": image(1)}))
    store.put("b.parquet", parquet_of([image(1)]))
    store.put("c.pdf", pdf_of([solid((1, 2, 3), (600, 300))]))
    items = items_of(store)
    small = Fetcher(DecodeLimits(max_bytes=len(image(1)) - 1, max_pixels=600 * 300 - 1))
    reasons = {}
    for key, item in items.items():
        signal = fetch(item, small).signal
        assert isinstance(signal, Rejected)
        reasons[key] = signal.reason
    over = f"{len(image(1))} bytes, over the limit of {len(image(1)) - 1} (limits.max_bytes)"
    assert reasons["a.tar/1.png"] == reasons["b.parquet/image/0000000000"] == over
    few = Fetcher(DecodeLimits(max_pixels=600 * 300 - 1))
    page = fetch(items["c.pdf/000001"], few).signal
    assert isinstance(page, Rejected)
    assert page.reason == "600 x 300 px at 200 dpi, over the limit of 179999 pixels (limits.max_pixels)"
    monkeypatch.setattr(image_rows, "GROUP_BYTES", 10)
    group = fetch(items["b.parquet/image/0000000000"]).signal
    assert isinstance(group, Rejected)
    assert "write the file with smaller row groups" in group.reason


def test_fetch__neighbours_share_their_requests(
    s3_bucket: str, image: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 64 << 10)
    store = open_store(parse(f"{s3_bucket}/corpus"))
    images = {f"{number:03}.png": image(number) for number in range(100)}
    archive = tar_of(images)
    store.put("a.tar", archive)
    store.put("b.parquet", parquet_of(list(images.values()), rows=50))
    items = items_of(store)
    opened: list[CountingStore] = []
    taken: list[int] = []

    def open_root(root: Location) -> BlobStore:
        opened.append(CountingStore(open_store(root)))
        return opened[-1]  # type: ignore[return-value]

    throttle = Throttle(10**9, None)
    monkeypatch.setattr(throttle, "take", taken.append)
    fetcher = Fetcher(DecodeLimits(), open_root, throttle=throttle)
    for key, data in images.items():
        assert fetch(items[f"a.tar/{key}"], fetcher).content_sha256 == hashlib.sha256(data).hexdigest()
    reads = [name for store in opened for name, _ in store.reads]
    assert reads == ["get_range"] * -(-len(archive.rstrip(b"\0")) // (64 << 10))
    assert len(taken) == len(reads)
    for number in range(100):
        assert fetch(items[f"b.parquet/image/{number:010}"], fetcher).signal is None
    reads = [name for store in opened for name, key in store.reads if key == "corpus/b.parquet"]
    assert len(reads) <= 5  # its size, its footer in one or two, two row groups
    assert len(taken) == sum(len(store.reads) for store in opened)


def test_fetch__the_same_over_a_bad_network(
    s3: S3Server, s3_bucket: str, image: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 4 << 10)
    store = open_store(parse(s3_bucket))
    images = {f"{number:02}.png": image(number) for number in range(20)}
    store.put("a.tar", tar_of(images))
    store.put("b.parquet", parquet_of(list(images.values()), rows=1))
    items = items_of(store)
    kinds = (Kind.SLOW_DOWN, Kind.RESET_BEFORE, Kind.RESET_AFTER, Kind.CUT, Kind.SHORTEN)
    with faulty_s3(s3, seeded(5, dict.fromkeys(kinds, 0.1))) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        fetcher = Fetcher(DecodeLimits(), patient)
        fetched = {key: fetch(item, fetcher) for key, item in items.items()}
        assert all(proxy.done[kind] > 0 for kind in kinds)
    digests = [digest_bytes(data) for data in images.values()]
    assert [one.content_sha256 for one in fetched.values()] == [*digests, *digests]


@pytest.mark.parametrize("packing", ["tar", "parquet"])
def test_pipeline__predicts_the_same_as_for_files(tmp_path: Path, packing: str) -> None:
    paths = [save_image(tmp_path / "photos" / f"{number}.png", seed=number) for number in range(12)]
    (tmp_path / "photos/7.png").write_bytes(b"no image")
    data = [path.read_bytes() for path in paths]
    pack = tar_of({path.name: one for path, one in zip(paths, data, strict=True)}) if packing == "tar" else (
        parquet_of(data)
    )  # fmt: skip
    place = tmp_path / f"packed/all.{packing}"
    place.parent.mkdir()
    place.write_bytes(pack)
    tables = []
    for number, items in enumerate((None, list(items_of(open_store(parse(str(place.parent)))).values()))):
        work = make_work(tmp_path / str(number), paths, items=items)
        pipeline = pipeline_over(work)
        pipeline.run_shard(0)
        pipeline.close()
        tables.append(read_results(open_store(parse(str(work.output))), "0001"))
    same = ["content_sha256", "bytes", "format", "width", "height", "outcome", "first", "second"]
    by_content = [table.sort_by("content_sha256").select(same) for table in tables]
    assert by_content[0].equals(by_content[1])
    assert set(tables[1]["outcome"].to_pylist()) == {Outcome.DONE, Outcome.UNREADABLE}
