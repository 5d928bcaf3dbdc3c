"""Are all files of an archive found where they are, and is nothing lost of one that is damaged?"""

import gzip
import io
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.packed_files import tar_of
from winnow_storage.packed.index import Index
from winnow_storage.packed.tar_index import LARGE_BYTES, MAX_HEADER_BYTES, tar_index

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def index_of(archive: bytes, buffer_bytes: int = 1024) -> Index:
    with io.FileIO(os.memfd_create("tar"), "r+") as file:
        file.write(archive)
        file.seek(0)
        return tar_index(file, buffer_bytes=buffer_bytes)


def files(index: Index, archive: bytes) -> dict[str, bytes | None]:
    found = {}
    for row in index.members.to_pylist():
        start, size = map(int, row["fragment"].split("-")) if row["fragment"] else (None, None)
        found[row["name"]] = None if start is None else archive[start : start + size]
    return found


@pytest.mark.parametrize("tar_format", FORMATS)
@pytest.mark.parametrize("buffer_bytes", [512, 1 << 20])
def test_tar_index__every_file_sorted_by_name(tar_format: int, buffer_bytes: int) -> None:
    members = {"b/2.jpg": b"two", "b/10.jpg": b"x" * 5000, "a.jpg": b"", "ä.png": b"1"}
    archive = tar_of(members, tar_format)
    index = index_of(archive, buffer_bytes)
    assert index.damage is None
    assert list(files(index, archive).items()) == sorted(members.items())
    assert dict(zip(*(index.members[name].to_pylist() for name in ("name", "bytes")), strict=True)) == {
        name: len(data) for name, data in members.items()
    }


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_index__long_names(tar_format: int) -> None:
    name = "/".join(["folder" * 20] * 5) + "/ü.jpg"
    archive = tar_of({name: b"data", "z": b"end"}, tar_format)
    assert files(index_of(archive), archive) == {name: b"data", "z": b"end"}


def test_tar_index__names_are_made_plain_and_the_last_of_a_name_counts() -> None:
    archive = tar_of([("./a.jpg", b"1"), ("a.jpg", b"22"), ("/b//c.jpg", b"3"), ("./b/./c.jpg", b"44")])
    assert files(index_of(archive), archive) == {"a.jpg": b"22", "b/c.jpg": b"44"}


def test_tar_index__names_that_lead_out_are_left_out_and_said() -> None:
    archive = tar_of([("../../etc/passwd.jpg", b"1"), ("a/../b.jpg", b"1"), ("c.jpg", b"3"), ("..jpg", b"4")])
    index = index_of(archive)
    assert files(index, archive) == {"c.jpg": b"3", "..jpg": b"4"}
    assert index.damage == ("2 members have '..' in their names and are left out (the first: '../../etc/passwd.jpg')")


def test_tar_index__names_that_are_not_utf8_have_a_key() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        header = tarfile.TarInfo("café.jpg")
        header.size = 3
        archive.addfile(header, io.BytesIO(b"abc"))
    assert files(index_of(sink.getvalue()), sink.getvalue()) == {"caf\\udce9.jpg": b"abc"}


def test_tar_index__links_and_devices_have_no_place_and_folders_no_row() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            header = tarfile.TarInfo(f"{kind.decode()}.jpg")
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
    index = index_of(sink.getvalue())
    assert set(index.members["name"].to_pylist()) == {"2.jpg", "1.jpg", "6.jpg"}
    assert index.members["fragment"].null_count == 3
    assert index.damage is None


@settings(deadline=None)
@given(st.data())
def test_tar_index__cut_anywhere_is_damaged_and_what_came_before_is_there(data: st.DataObject) -> None:
    archive = tar_of({f"{number:02}.jpg": bytes([number]) * (number * 300) for number in range(8)})
    end = len(archive.rstrip(b"\0"))
    cut = data.draw(st.integers(0, end))
    index = index_of(archive[:cut])
    assert index.damage is not None
    whole = files(index_of(archive), archive)
    for name, content in files(index, archive[:cut]).items():
        assert content is not None
        assert whole[name] is not None
        assert whole[name].startswith(content)  # type: ignore[union-attr]
    headers = [int(fragment.split("-")[0]) for fragment in index_of(archive).members["fragment"].to_pylist()]
    assert len(index.members) == sum(data_starts <= cut for data_starts in headers)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is no tar archive, or damaged: empty file"),
        (b"text" * 1000, "it is no tar archive, or damaged: "),
        (gzip.compress(tar_of({"a": b"b"})), "it is compressed (gzip), which cannot be read by ranges"),
        (tar_of({"a": b"b"}) + tar_of({"c": b"d"}), "something follows its end mark at byte 1024: archives"),
        (tar_of({"a": b"b", "c": b"d"}).replace(b"c\0", b"x\0", 1), "it is damaged at byte 1024: no header"),
    ],
)  # fmt: skip
def test_tar_index__says_what_is_wrong(data: bytes, said: str) -> None:
    assert str(index_of(data).damage).startswith(said)


def test_tar_index__a_header_of_gigabytes_is_not_read() -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, MAX_HEADER_BYTES + 1
    index = index_of(header.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1024)
    assert index.damage is not None
    assert "a header claims" in index.damage


def test_tar_index__large_members_are_skipped() -> None:
    read: list[int] = []

    class Counting(io.FileIO):
        def readinto(self, buffer: object) -> int:
            read.append(super().readinto(buffer))  # type: ignore[arg-type]
            return read[-1]

    archive = tar_of({f"{number}.jpg": b"x" * LARGE_BYTES for number in range(8)})
    with Counting(os.memfd_create("tar"), "r+") as file:
        file.write(archive)
        file.seek(0)
        index = tar_index(file, buffer_bytes=1 << 16)
    assert files(index, archive) == {f"{number}.jpg": b"x" * LARGE_BYTES for number in range(8)}
    assert len(read) <= 12
    assert sum(read) < len(archive) / 20


def test_index__is_read_back_from_its_object() -> None:
    for index in (
        Index.of([("b", "1-2", 2), ("a", None, None)], "cut off"), Index.unopened("no tar"), Index.of([])
    ):  # fmt: skip
        again = Index.decode(index.encode())
        assert (again.members.to_pylist(), again.damage) == (index.members.to_pylist(), index.damage)
    with pytest.raises(ValueError, match="no index of a container"):
        Index.decode(b"PAR1 nothing")
    damaged = bytearray(Index.of([("b", "1-2", 2)]).encode())
    damaged[30] ^= 255
    with pytest.raises(ValueError, match="no index of a container"):
        Index.decode(bytes(damaged))


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header of a member with a size field of any kind (twelve bytes), its checksum right."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:263] = b"ustar\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [-512, -1024, -1, 2**63, 2**80])
def test_tar_index__sizes_that_no_file_has_are_damage(size: int) -> None:
    base_256 = (b"\x80" if size >= 0 else b"\xff") + (size % 2**88).to_bytes(11, "big")
    index = index_of(tar_of({"a.jpg": b"1"})[:1024] + header(b"b.jpg", base_256) + bytes(2048))
    assert index.damage is not None
    assert index.members["name"].to_pylist() == ["a.jpg"]


def test_tar_index__headers_in_headers_without_end_are_damage() -> None:
    long_name = header(b"././@LongLink", b"00000000002\0", b"L") + b"x\0" + bytes(510)
    index = index_of(long_name * 2000)
    assert index.damage is not None
    assert len(index.members) == 0
