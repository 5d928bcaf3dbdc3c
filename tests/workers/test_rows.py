"""What a shard's rows add up to."""

import pyarrow as pa
import pytest

from winnow_storage.blobs import uri_of
from winnow_storage.listing import ABSENT
from winnow_storage.schemas import result_schema
from winnow_storage.uri import parse
from winnow_workers.rows import FAULTS, summarise

SCHEMA = result_schema({})


def rows_of(*ended: tuple[str, str | None], version: str = "v") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "item_id": str(number), "key": str(number), "uri": f"file:///{number}", "version": version,
                "outcome": outcome, "reason": reason, "failed_tasks": [], "run_id": "0001", "shard": 0, "bytes": 3,
            }
            for number, (outcome, reason) in enumerate(ended)
        ],
        schema=SCHEMA,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("kind: RuntimeError: size 17 at index 3", "kind: RuntimeError: size 9 at index 120"),
        ("cannot read s3://bucket/a b.jpg: SlowDown", "cannot read s3://bucket/c b.jpg: SlowDown"),
        ("KeyError: 'left'", "KeyError: 'right'"),
    ],
)
def test_summarise__the_same_error_of_different_items_is_one_fault(one: str, other: str) -> None:
    faults = summarise(rows_of(("failed", one), ("failed", other), ("done", None)), ()).faults
    assert list(faults.values()) == [2]


NAMES = [
    "plain.jpg", "My Photos/Holiday Sunset.jpg", "Anna's/it's one.jpg", 'the "best" of all.jpg', "both ' and \".jpg",
    "写真 夏/海辺 で.jpg", "A\u030angstro\u0308m é.jpg", "with\u00a0no\u200bbreak.jpg", "odd: at s3:, 7 [x] (y).jpg",
    "back\\slash one.jpg", "a", "cannot read.jpg",
]  # fmt: skip


def named(*said_of: tuple[str, str, str]) -> pa.Table:
    """Rows of unavailable items, each of its URI, key and reason."""
    rows = rows_of(*(("unavailable", reason) for _, _, reason in said_of)).to_pylist()
    for row, (uri, key, _) in zip(rows, said_of, strict=True):
        row.update(uri=uri, key=key)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@pytest.mark.parametrize("root", ["s3://bucket/a corpus", "/srv/a corpus"])
@pytest.mark.parametrize("names_itself", [True, False])
@pytest.mark.parametrize(
    "said",
    [
        "cannot read {place} at http://127.0.0.1:9000: InvalidRequest (HTTP 400): said so",
        "{place} was replaced or changed since it was listed",
        "[Errno 22] Invalid argument: {place!r}",
        "kind: LookupError: nothing about {key!r} (table.py:17)",
        "kind: ValueError: {name} has no horizon",
    ],
)
def test_summarise__an_item_is_left_out_of_its_fault_whatever_it_is_called(
    root: str, names_itself: bool, said: str
) -> None:
    """An item of a corpus file has its URI for a key."""
    place = parse(root)
    uris = [uri_of(place, name) for name in NAMES]
    keys = uris if names_itself else NAMES
    reasons = [said.format(place=f"{root}/{name}", key=key, name=name.rpartition("/")[2])
               for name, key in zip(NAMES, keys, strict=True)]  # fmt: skip
    faults = summarise(named(*zip(uris, keys, reasons, strict=True)), ()).faults
    assert list(faults.values()) == [len(NAMES)]


def test_summarise__a_container_is_left_out_of_its_members_fault() -> None:
    of = [(f"s3://bucket/My Tars/all of {name}.tar", f"{name} at sea.jpg") for name in ("Anna", "Bo's", '"Cy"', "夏")]
    faults = summarise(named(*(
        (f"tar+{container}#512-3", f"{container}/{name}", f"cannot read {container} at http://e: InvalidRequest")
        for container, name in of
    )), ()).faults  # fmt: skip
    assert list(faults.values()) == [len(of)]


def test_summarise__a_lost_folder_is_left_out_of_its_files_fault() -> None:
    place, folders = parse("/srv/My Photos"), ("Anna at sea", "Bo's", "夏 の")
    faults = summarise(named(*(
        (uri_of(place, f"{folder}/a b.jpg"), f"{folder}/a b.jpg", f"its folder {place}/{folder} is gone or empty")
        for folder in folders
    )), ()).faults  # fmt: skip
    assert list(faults.values()) == [len(folders)]


def test_summarise__different_errors_of_items_stay_different() -> None:
    uris = [f"s3://b/{letter} b.jpg" for letter in "pqrs"]
    reasons = [f"cannot read {uri}: {code}" for uri, code in zip(uris, ["Slow", "Slow", "Denied", "Gone"], strict=True)]
    keys = [uri[7:] for uri in uris]
    faults = summarise(named(*zip(uris, keys, reasons, strict=True)), ()).faults
    assert faults == {
        "unavailable: cannot read #: Slow": 2, "unavailable: cannot read #: Denied": 1,
        "unavailable: cannot read #: Gone": 1,
    }  # fmt: skip


def test_summarise__what_is_the_items_own_is_no_fault() -> None:
    rows = rows_of(("unreadable", "damaged"), ("rejected", "too big"), ("done", None))
    assert summarise(rows, ()).faults == {}
    assert summarise(rows, ()).bytes == 9


def test_summarise__items_that_were_listed_and_are_gone_are_one_fault() -> None:
    rows = rows_of(("missing", "not there"), ("missing", "not there"), ("done", None))
    assert summarise(rows, ()).faults == {"missing: not there": 2}


def test_summarise__what_was_never_there_is_no_fault() -> None:
    rows = rows_of(("missing", "not there"), ("missing", "not there"), version=ABSENT)
    assert summarise(rows, ()).faults == {}
    assert summarise(rows, ()).outcomes == {"missing": 2}


def test_summarise__a_shard_of_many_errors_keeps_the_most_frequent() -> None:
    names = [f"{letter * 3}Error: x" for letter in "ABCDEFGHIJKL"]
    rows = rows_of(*(("failed", name) for number, name in enumerate(names) for _ in range(number + 1)))
    faults = summarise(rows, ()).faults
    assert len(faults) == FAULTS
    assert max(faults.values()) == len(names)
    assert min(faults.values()) == len(names) - FAULTS + 1
