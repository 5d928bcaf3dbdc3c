"""Where are indexes kept that are too small for an object each? In one table, read at once, written when it grew.

A corpus of a million documents would otherwise cost a million requests every night to learn that nothing changed. The
table is derived: two who write at once lose nothing that cannot be made again.
"""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing
from winnow_storage.packed.index import MEMBERS, Index

KEY = "packed/small.parquet"
MEMBERS_MOST = 64  # of an index that is small
_NAME_BYTES = 16
_NEW_LEAST = 4096  # indexes that are made before the table is written again, or a quarter of it
_TABLE = pa.schema(
    [
        pa.field("name", pa.binary(_NAME_BYTES), nullable=False),
        pa.field("damage", pa.string()),
        pa.field("members", pa.list_(pa.struct(list(MEMBERS))), nullable=False),
    ]
)


class SmallIndexes:
    """The table at `store`, for any number of threads. Names are digests in hex, of which 128 bits count."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._new: dict[bytes, Index] = {}
        table = _read(store)
        self._take(table, np.zeros(len(table), np.bool_))

    def get(self, name: str) -> Index | None:
        """The index that was kept under a name."""
        with self._lock:
            wanted = _bytes(name)
            if wanted in self._new:
                return self._new[wanted]
            at = int(np.searchsorted(self._firsts, _first(wanted)))
            while at < len(self._firsts) and self._firsts[at] == _first(wanted):
                if self._table["name"][at].as_py() == wanted:
                    self._used[at] = True
                    return _index(self._table, at)
                at += 1
            return None

    def add(self, name: str, index: Index) -> None:
        """Keep a new one; the table is written now and then."""
        with self._lock:
            self._new[_bytes(name)] = index
            if len(self._new) >= max(_NEW_LEAST, len(self._table) // 4):
                self._write(np.ones(len(self._table), np.bool_))

    def write(self) -> None:
        """Write what is new; what nobody asked for goes, once it is the greater part."""
        with self._lock:
            if self._new:
                is_mostly_used = 2 * np.count_nonzero(self._used) >= len(self._table)
                self._write(self._used | is_mostly_used)

    def _write(self, kept: NDArray[np.bool_]) -> None:
        rows = [
            {"name": name, "damage": index.damage, "members": index.members.to_pylist()}
            for name, index in self._new.items()
        ]
        joined = pa.concat_tables([self._table.filter(pa.array(kept)), pa.Table.from_pylist(rows, schema=_TABLE)])
        order = pc.sort_indices(joined["name"].cast(pa.binary())).to_numpy()
        table = joined.take(pa.array(order)).combine_chunks()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        self._store.put(KEY, bytes(sink.getvalue()))
        used = np.concatenate([self._used[kept], np.ones(len(self._new), np.bool_)])
        self._new.clear()
        self._take(table, used[order])

    def _take(self, table: pa.Table, used: NDArray[np.bool_]) -> None:
        self._table, self._used = table, used
        # the names' first 64 bits, in the order of their bytes
        names = b"".join(table["name"].to_pylist())
        self._firsts = np.frombuffer(names, ">u8")[::2].astype(np.uint64)


def _read(store: BlobStore) -> pa.Table:
    """The table as it was kept; an empty one if there is none, or none that can be read."""
    try:
        with pq.ParquetFile(pa.BufferReader(store.get(KEY)), page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
    except (BlobMissing, pa.ArrowException, OSError):  # OSError is Arrow's, of a page it cannot unpack
        return _TABLE.empty_table()
    return table if table.schema == _TABLE else _TABLE.empty_table()


def _index(table: pa.Table, at: int) -> Index:
    members = pa.array(table["members"][at].as_py(), _TABLE.field("members").type.value_type)
    return Index(pa.RecordBatch.from_struct_array(members).cast(MEMBERS), table["damage"][at].as_py())


def _bytes(name: str) -> bytes:
    return bytes.fromhex(name)[:_NAME_BYTES]


def _first(name: bytes) -> int:
    return int.from_bytes(name[:8], "big")
