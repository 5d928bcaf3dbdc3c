"""Archives, Parquet files and PDF documents as people make them, in memory."""

import io
import tarfile
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from winnow_storage.blobs import BlobStore


class CountingStore:
    """A store that notes what is read from it, as (method, key)."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self.root = store.root
        self.reads: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)
        if name not in ("get", "read", "read_bulk", "get_range", "info"):
            return method

        def noted(key: str, *arguments: object, **named: object) -> object:
            self.reads.append((name, key))
            return method(key, *arguments, **named)

        return noted


def tar_of(members: Mapping[str, bytes] | Sequence[tuple[str, bytes]], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """A plain archive."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tar_format) as archive:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return sink.getvalue()


def parquet_of(images: Sequence[bytes | None], *, column: str = "image", nested: bool = True, rows: int = 4) -> bytes:
    """A file as Hugging Face's datasets lie in them (`nested`), or with a plain column of bytes; a label beside it."""
    values = [{"bytes": data, "path": "x.jpg"} for data in images] if nested else list(images)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if nested else pa.binary()
    table = pa.table({column: pa.array(values, kind), "label": list(range(len(images)))})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=rows, write_page_checksum=True)
    return sink.getvalue()


def pdf_of(pages: Sequence[Image.Image], *, dpi: float = 200.0) -> bytes:
    """A scanned document."""
    sink = io.BytesIO()
    pages[0].save(sink, "PDF", save_all=True, append_images=list(pages[1:]), resolution=dpi)
    return sink.getvalue()


def solid(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A page of one colour."""
    return Image.new("RGB", size, colour)
