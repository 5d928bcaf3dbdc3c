"""Is every place inside of a container named by one URI, and read back from it?"""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_storage.errors import SpecError
from winnow_storage.packed import names
from winnow_storage.packed.names import Kind, PageMember, ParquetMember, Place, TarMember, parse_place

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None)
@given(keys, st.integers(0), st.integers(0))
def test_tar_fragment__is_read_back_whatever_the_key_is(key: str, offset: int, size: int) -> None:
    container = f"s3://bucket/{key}"
    uri = names.uri_base(Kind.TAR, container) + names.tar_fragment(offset, size)
    assert parse_place(uri) == Place(Kind.TAR, container, TarMember(offset, size))
    assert parse_place(names.uri_base(Kind.TAR, container)) == Place(Kind.TAR, container, None)


@settings(deadline=None)
@given(keys, st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0))
def test_parquet_fragment__is_read_back_whatever_the_column_is(key: str, column: str, row: int) -> None:
    (fragment,) = names.parquet_fragments(pa.array([str(row)]), column).to_pylist()
    uri = names.uri_base(Kind.PARQUET, f"file:///{key}") + fragment
    assert parse_place(uri) == Place(Kind.PARQUET, f"file:///{key}", ParquetMember(row, column))


def test_parse_place__the_uris_of_the_guide() -> None:
    assert parse_place("tar+s3://b/a.tar#1536-10240") == Place(Kind.TAR, "s3://b/a.tar", TarMember(1536, 10240))
    parquet = parse_place("parquet+s3://b/a.parquet#row=17&column=image")
    assert parquet == Place(Kind.PARQUET, "s3://b/a.parquet", ParquetMember(17, "image"))
    assert parse_place("pdf+file:///d/a.pdf#page=3") == Place(Kind.PDF, "file:///d/a.pdf", PageMember(3))


@pytest.mark.parametrize("uri", ["s3://b/a.tar", "file:///a.tar#1-2", "zip+s3://b/a.zip#1-2", "s3://b/tar+s3://c#1-2"])
def test_parse_place__an_object_is_none(uri: str) -> None:
    assert parse_place(uri) is None


@pytest.mark.parametrize(
    "uri",
    ["tar+s3://b/a.tar", "tar+s3://b/a.tar#page=1", "pdf+s3://b/a.pdf#page=0", "parquet+s3://b/a#row=-1&column=x"],
)
def test_parse_place__what_names_nothing_is_refused(uri: str) -> None:
    with pytest.raises(SpecError, match="names nothing inside of"):
        parse_place(uri)


@pytest.mark.parametrize(
    ("key", "kind"),
    [("x/A.TAR", Kind.TAR), ("a.tar.gz", Kind.TAR), ("a.tgz", Kind.TAR), ("a.parquet", Kind.PARQUET),
     ("a.Pdf", Kind.PDF), ("a.jpg", None), ("tar", None), ("a.tar/b.jpg", None)],
)  # fmt: skip
def test_kind_of__by_the_name(key: str, kind: Kind | None) -> None:
    assert names.kind_of(key) == kind
