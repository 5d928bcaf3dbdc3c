"""Does a Parquet file that claims what it does not hold end its rows, and nothing else?"""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow_storage.errors import BlobDamaged, BlobTooLarge
from winnow_storage.packed import image_rows
from winnow_storage.packed.image_rows import ImageRows, RowGroups
from winnow_storage.packed.names import ParquetMember
from winnow_storage.packed.parquet_column import open_parquet


def written(values: list[bytes], column: str = "image") -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({column: pa.array(values, pa.binary())}), sink)
    return bytes(sink.getvalue())


def rows_of(file: bytes) -> ImageRows:
    return ImageRows(open_parquet(io.BytesIO(file), "x.parquet"), "x.parquet", "v", RowGroups(1 << 30))


def test_bytes_of__the_row() -> None:
    values = [bytes([number]) * number for number in range(200)]
    rows = rows_of(written(values))
    assert [rows.bytes_of(ParquetMember(number, "image")) for number in range(200)] == values


def test_bytes_of__a_dictionary_that_unpacks_to_more_than_the_footer_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_rows, "GROUP_BYTES", 1 << 20)
    file = written([b"x" * 10_000] * 10_000)  # 100 MB
    assert len(file) < 10_000
    with pytest.raises(BlobTooLarge, match="write the file with smaller row groups"):
        rows_of(file).bytes_of(ParquetMember(7, "image"))


def test_open_parquet__a_name_that_is_no_text() -> None:
    file = written([b"1"], "imagX").replace(b"imagX", b"imag\xff")
    with pytest.raises(BlobDamaged, match="is no Parquet file, or damaged"):
        rows_of(file)
