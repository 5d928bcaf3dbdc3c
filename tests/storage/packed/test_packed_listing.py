"""Are containers listed as what they hold: complete, in order, each opened once, and nothing lost of a broken one?"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.packed_files import CountingStore, parquet_of, pdf_of, solid, tar_of
from tests.servers.scripted import refusing_s3
from winnow_storage import blobs, schemas
from winnow_storage.blobs import BlobInfo, BlobStore, open_store
from winnow_storage.errors import BlobDamaged, SpecError
from winnow_storage.found import found_batch
from winnow_storage.listing import CorpusSource, CorpusStream, stream_corpus
from winnow_storage.packed import indexes, parquet_column
from winnow_storage.packed.expand import Expansion
from winnow_storage.packed.index import Index
from winnow_storage.packed.indexes import Indexes
from winnow_storage.packed.names import parse_place
from winnow_storage.packed.pdf_pages import CountingEnded, PageCounter
from winnow_storage.packed.reading import MemberReader
from winnow_storage.packed.small_indexes import MEMBERS_MOST
from winnow_storage.uri import Location, parse

INCLUDE = ("*.jpg", "*.tar", "*.parquet", "*.pdf")


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: object) -> Location:
    if request.param == "local":
        return parse(str(tmp_path))
    return parse(request.getfixturevalue("s3_bucket"))


@pytest.fixture
def source(place: Location) -> CorpusSource:
    return CorpusSource("shelves", place / "corpus", INCLUDE, indexes=place / "out")


def fill(source: CorpusSource, objects: dict[str, bytes]) -> BlobStore:
    store = open_store(source.root)
    for key, data in objects.items():
        store.put(key, data)
    return store


def listed(source: CorpusSource) -> tuple[dict[str, dict[str, object]], CorpusStream]:
    stream = stream_corpus(source)
    rows = pa.Table.from_batches(list(stream), schema=schemas.SNAPSHOT).to_pylist()
    assert stream.items == len(rows)
    keys = [row["key"] for row in rows]
    assert keys == sorted(keys, key=lambda key: key.encode())
    return {row["key"]: row for row in rows}, stream


def test_listing__members_stand_for_their_containers(source: CorpusSource) -> None:
    page = solid((1, 2, 3))
    store = fill(source, {
        "a.tar": tar_of({"2.jpg": b"two", "1.jpg": b"1", "1.json": b"{}", "in/x.PDF": b"no", "s/3.jpg": b""}),
        "a.tar-old.jpg": b"between", "a.tarn.jpg": b"behind",
        "b/c#d.parquet": parquet_of([b"r0", b"r1", b"r2"], rows=2), "p.pdf": pdf_of([page] * 11), "notes.txt": b"",
    })  # fmt: skip
    rows, stream = listed(source)
    pages = [f"p.pdf/{number:06d}" for number in range(1, 12)]
    assert list(rows) == [
        "a.tar-old.jpg", "a.tar/1.jpg", "a.tar/2.jpg", "a.tar/s/3.jpg", "a.tarn.jpg",
        "b/c#d.parquet/image/0000000000", "b/c#d.parquet/image/0000000001", "b/c#d.parquet/image/0000000002", *pages,
    ]  # fmt: skip
    assert (stream.others, stream.other_examples) == (3, ("notes.txt", "a.tar/1.json", "a.tar/in/x.PDF"))
    member = rows["a.tar/2.jpg"]
    info = store.info("a.tar")
    assert info is not None
    assert (member["version"], member["bytes"]) == (info.version, 3)
    assert str(member["uri"]) == f"tar+{blobs.uri_of(source.root, 'a.tar')}#512-3"
    assert rows["p.pdf/000011"]["uri"] == f"pdf+{blobs.uri_of(source.root, 'p.pdf')}#page=11"
    container = blobs.uri_of(source.root, "b/c#d.parquet")
    assert rows["b/c#d.parquet/image/0000000001"]["uri"] == f"parquet+{container}#row=1&column=image"
    assert rows["b/c#d.parquet/image/0000000001"]["bytes"] is None
    assert rows["a.tar-old.jpg"]["uri"] == blobs.uri_of(source.root, "a.tar-old.jpg")


def test_listing__only_containers_are_named(source: CorpusSource) -> None:
    fill(source, {"a.tar": tar_of({"1.webp": b"1", "1.cls": b"3"}), "b.jpg": b"x"})
    rows, stream = listed(replace(source, include=("*.TAR",)))
    assert list(rows) == ["a.tar/1.webp"]
    assert stream.other_examples == ("b.jpg", "a.tar/1.cls")


def test_listing__containers_are_no_items_of_a_corpus_of_images(source: CorpusSource) -> None:
    fill(source, {"a.tar": tar_of({"1.jpg": b"1"}), "b.jpg": b"x"})
    rows, stream = listed(replace(source, include=("*.jpg", "*.png")))
    assert (list(rows), stream.others) == (["b.jpg"], 1)
    assert open_store(parse(str(source.indexes))).folders() == []


def test_listing__what_cannot_be_opened_is_an_item_itself(source: CorpusSource) -> None:
    archive = tar_of({"1.jpg": b"1" * 600, "2.jpg": b"2" * 600})
    document = pdf_of([solid((1, 2, 3))])
    fill(source, {
        "a.tar": b"no tar", "b.tar": archive[:2100], "c.tar.gz": b"\x1f\x8b", "d.parquet": b"PAR1",
        "e.pdf": document[:99], "f.pdf": document, "g.tar": tar_of({}),
    })  # fmt: skip
    tight = replace(source, include=("*.tar", "*.tar.gz", "*.parquet", "*.pdf"), max_document_bytes=len(document) - 1)
    rows, _ = listed(tight)
    assert list(rows) == ["a.tar", "b.tar", "b.tar/1.jpg", "b.tar/2.jpg", "c.tar.gz", "d.parquet", "e.pdf", "f.pdf"]
    for key, kind in (("b.tar", "tar"), ("c.tar.gz", "tar"), ("d.parquet", "parquet"), ("f.pdf", "pdf")):
        assert rows[key]["uri"] == f"{kind}+{blobs.uri_of(source.root, key)}#"
    assert [rows[key]["bytes"] for key in ("a.tar", "f.pdf")] == [None, len(document)]
    assert "f.pdf/000001" in listed(source)[0]  # no index was kept of what was only too large


def test_listing__an_object_below_a_container_is_refused(s3_bucket: str) -> None:
    source = CorpusSource("shelves", parse(s3_bucket), INCLUDE)
    fill(source, {"a.tar": tar_of({"1.jpg": b"1"}), "a.tar/2.jpg": b"x"})
    with pytest.raises(SpecError, match=r"'a.tar/2.jpg' lies below the name of a container, as the members of 'a.tar'"):
        listed(source)


@pytest.mark.parametrize("nested", [True, False])
def test_listing__the_column_of_images(source: CorpusSource, nested: bool) -> None:
    fill(source, {"a.parquet": parquet_of([b"x"], column="ein/bild", nested=nested)})
    assert list(listed(source)[0]) == ["a.parquet/ein%2Fbild/0000000000"]
    assert list(listed(replace(source, column="ein/bild"))[0]) == ["a.parquet/ein%2Fbild/0000000000"]
    with pytest.raises(SpecError) as caught:
        listed(replace(source, column="label"))
    assert "a.parquet has no column 'label' that holds bytes; its columns are ein/bild (" in str(caught.value)
    assert "corpus.column: ein/bild" in str(caught.value)


def counted(source: CorpusSource, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[tuple[str, str]]]:
    """The keys that are listed, and what was read of the corpus for that."""
    opened: list[CountingStore] = []

    def open_counting(root: Location, **more: Any) -> object:
        store = CountingStore(open_store(root, **more))
        if root == source.root:
            opened.append(store)
        return store

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "open_store", open_counting)
        keys = list(listed(source)[0])
    return keys, [read for store in opened for read in store.reads]


def test_indexes__an_unchanged_container_costs_no_request(
    source: CorpusSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fill(source, {
        "a.tar": tar_of({"1.jpg": b"1"}), "b.parquet": parquet_of([b"x"]), "c.pdf": pdf_of([solid((1, 2, 3))]),
        "d.tar": b"broken", "e.tar": tar_of({f"{number}.jpg": b"x" for number in range(MEMBERS_MOST + 1)}),
    })  # fmt: skip
    first, reads = counted(source, monkeypatch)
    assert {key for _, key in reads} == {"a.tar", "b.parquet", "c.pdf", "d.tar", "e.tar"}
    assert counted(source, monkeypatch) == (first, [])
    assert counted(replace(source, include=(*INCLUDE, "*.png")), monkeypatch) == (first, [])
    store.put("a.tar", tar_of({"1.jpg": b"1", "2.jpg": b"22"}))
    second, reads = counted(source, monkeypatch)
    assert set(second) - set(first) == {"a.tar/2.jpg"}
    assert {key for _, key in reads} == {"a.tar"}


@pytest.mark.parametrize("members", [1, MEMBERS_MOST + 1])
def test_indexes__a_damaged_one_is_made_again(
    source: CorpusSource, monkeypatch: pytest.MonkeyPatch, members: int
) -> None:
    fill(source, {"a.tar": tar_of({f"{number}.jpg": b"1" for number in range(members)})})
    first = counted(source, monkeypatch)[0]
    out = open_store(parse(str(source.indexes)))
    (index,) = (info.key for info in out.walk("packed/"))
    out.put(index, b"PAR1 damaged")
    keys, reads = counted(source, monkeypatch)
    assert keys == first
    assert reads != []
    assert counted(source, monkeypatch) == (first, [])


@pytest.mark.parametrize("key", ["a.tar", "a.parquet", "a.pdf"])
def test_indexes__of_what_was_replaced_or_removed_since_nothing_is_kept(source: CorpusSource, key: str) -> None:
    makers: dict[str, Callable[[], bytes]] = {
        "a.tar": lambda: tar_of({"1.jpg": b"1"}), "a.parquet": lambda: parquet_of([b"1"]),
        "a.pdf": lambda: pdf_of([solid((1, 2, 3))]),
    }  # fmt: skip
    store = fill(source, {key: makers[key]()})
    out = open_store(parse(str(source.indexes)))
    with Indexes(store, out, column=None, max_document_bytes=10**9) as made:
        for version in ("other", "removed"):
            info = BlobInfo(key if version == "other" else f"gone-{key}", len(makers[key]()), version)
            index = made.of(info)
            assert index.damage is not None
            assert len(index.members) == 0
    assert list(out.walk("packed/")) == []


@pytest.mark.parametrize("key", ["a.tar", "a.parquet", "a.pdf"])
def test_indexes__of_what_the_store_does_not_give_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    out = open_store(parse(str(tmp_path)))
    with refusing_s3(monkeypatch, 400, "KMS.DisabledException"):
        corpus = open_store(parse("s3://bucket/corpus"))
        with Indexes(corpus, out, column=None, max_document_bytes=10**9) as made:
            index = made.of(BlobInfo(key, 1000, "v"))
    assert "KMS.DisabledException" in str(index.damage)
    assert len(index.members) == 0
    assert list(out.walk("packed/")) == []


def test_indexes__a_claim_of_millions_is_no_member(source: CorpusSource, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(source, {"a.pdf": pdf_of([solid((1, 2, 3))]), "b.parquet": parquet_of([b"1", b"2"])})
    monkeypatch.setattr(PageCounter, "count", lambda counter, document: 10**6)
    monkeypatch.setattr(parquet_column, "ROWS_MOST", 1)
    rows, _ = listed(source)
    assert list(rows) == ["a.pdf", "b.parquet"]
    reader = MemberReader(open_store)
    place = parse_place(str(rows["b.parquet"]["uri"]))
    assert place is not None
    with pytest.raises(BlobDamaged, match="it claims 2 rows"):
        reader.read(place, str(rows["b.parquet"]["version"]))


def test_listing__announces_every_request_into_a_container(
    source: CorpusSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(source, {
        "a.tar": tar_of({"1.jpg": b"1" * 99999}), "b.parquet": parquet_of([b"1"]), "c.pdf": pdf_of([solid((1, 2, 3))])
    })  # fmt: skip
    announced: list[int] = []
    opened: list[CountingStore] = []

    def open_counting(root: Location, **more: Any) -> CountingStore:
        opened.append(CountingStore(open_store(root, **more)))
        return opened[-1]

    monkeypatch.setattr(blobs, "open_store", open_counting)
    assert sum(batch.num_rows for batch in stream_corpus(replace(source, indexes=None), announced.append)) == 3
    # with no bytes: the page of the listing, which is a request of its own on S3
    assert sum(size > 0 for size in announced) == sum(len(store.reads) for store in opened)


def test_indexes__of_a_document_nobody_could_count_nothing_is_kept(
    source: CorpusSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(source, {"a.pdf": pdf_of([solid((1, 2, 3))])})
    with monkeypatch.context() as patch:
        patch.setattr(PageCounter, "count", ended)
        assert list(listed(source)[0]) == ["a.pdf"]
    assert list(listed(source)[0]) == ["a.pdf/000001"]


def ended(counter: PageCounter, document: bytes) -> int:
    raise CountingEnded("SIGKILL")


class _Named(Indexes):
    """Indexes that say of every container what it holds, and open none."""

    def __init__(self, members: dict[str, list[str]]) -> None:
        self._of = members

    def known(self, info: BlobInfo) -> Index | None:
        return self.of(info) if len(info.key) % 2 else None

    def of(self, info: BlobInfo) -> Index:
        return Index.of(((name, "1-1", 1) for name in self._of[info.key]), "cut" if "!" in info.key else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *of: object) -> None:
        pass


names = st.text("a./-!", min_size=1, max_size=3)


@settings(deadline=None)
@given(st.dictionaries(names.map(lambda name: f"{name}.tar"), st.lists(names, unique=True, max_size=3), max_size=6),
       st.sets(names, max_size=8), st.integers(1, 4))  # fmt: skip
def test_expansion__is_the_sorted_union(members: dict[str, list[str]], plain: set[str], rows: int) -> None:
    starts = [f"{key}/" for key in members]
    keys = sorted(plain | set(members))
    batches = [
        found_batch(part, ["v"] * len(part), [1] * len(part))
        for at in range(0, len(keys), rows)
        if (part := keys[at : at + rows])
    ]
    expansion = Expansion(parse("s3://b"), _Named(members), lambda _: True, lambda _: None)
    below = any(key.startswith(start) for key in keys for start in starts)
    try:
        found = [key for batch in expansion.batches(batches) for key in batch.column("key").to_pylist()]
    except SpecError:
        assert below
        return
    assert not below
    inside = {f"{key}/{name}" for key, names in members.items() for name in names}
    assert found == sorted(plain | inside | {key for key in members if "!" in key})


def test_buffer__is_known_for_every_scheme() -> None:
    assert set(indexes.BUFFER_BYTES) == {"s3", "file"}
