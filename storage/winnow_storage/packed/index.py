"""What does a container hold? Its members, sorted, and what is wrong with it; as an object of its own."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

# `name` is unique, and the part of an item's key behind the container's own; `fragment` is what follows "#" in its URI,
# null for what is no regular file; `bytes` is the member's size where the container says it.
MEMBERS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("fragment", pa.string()),
        pa.field("bytes", pa.int64()),
    ]
)
_DAMAGE = b"damage"


@dataclass(frozen=True, slots=True)
class Index:
    """The members that were found, sorted by the UTF-8 bytes of their names; `damage` says why there may be more."""

    members: pa.RecordBatch
    damage: str | None = None

    @classmethod
    def of(cls, members: Iterable[tuple[str, str | None, int | None]], damage: str | None = None) -> "Index":
        """From (name, fragment, size in bytes), in any order."""
        rows = sorted(members)
        columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, MEMBERS, strict=True)]
        return cls(pa.record_batch(arrays, schema=MEMBERS), damage)

    @classmethod
    def unopened(cls, damage: str) -> "Index":
        """Of a container that cannot be opened."""
        return cls.of((), damage)

    def encode(self) -> bytes:
        """As a Parquet object; equal indexes give equal bytes."""
        metadata = {} if self.damage is None else {_DAMAGE: self.damage.encode()}
        sink = pa.BufferOutputStream()
        table = pa.Table.from_batches([self.members]).replace_schema_metadata(metadata)
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        return bytes(sink.getvalue())

    @classmethod
    def decode(cls, data: bytes) -> "Index":
        """What `encode` wrote.

        Raises:
            ValueError: something else, or damaged.
        """
        try:
            with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
                table = file.read(use_threads=False).combine_chunks()
        except (pa.ArrowException, OSError) as error:  # OSError is Arrow's, of a page it cannot unpack
            raise ValueError(f"no index of a container: {error}") from error
        damage = (table.schema.metadata or {}).get(_DAMAGE)
        if table.schema.remove_metadata() != MEMBERS:
            raise ValueError(f"no index of a container: its columns are {', '.join(table.schema.names)}")
        columns = [pa.concat_arrays(table[name].chunks or [pa.array([], table[name].type)]) for name in MEMBERS.names]
        members = pa.record_batch(columns, schema=MEMBERS)
        return cls(members, None if damage is None else damage.decode())
