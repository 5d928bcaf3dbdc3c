"""Does the registry name models by version and stage, and never lose or replace one?"""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from winnow_storage import blobs, ids, uri
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import ModelError, StoreError
from winnow_storage.registry import ModelEntry, Registry


class Clock:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    root = str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_bucket")
    return blobs.open_store(uri.parse(root))


@pytest.fixture
def registry(store: BlobStore) -> Registry:
    return Registry(store, now=Clock())


@pytest.fixture
def local(tmp_path: Path) -> Registry:
    return Registry(blobs.open_store(uri.parse(str(tmp_path))), now=Clock())


def test_add__first_version(registry: Registry, store: BlobStore) -> None:
    entry = registry.add("kind", b"weights", {"labels": ["a", "b"], "licence": None})
    assert entry == ModelEntry(
        name="kind",
        version="1",
        uri=blobs.uri_of(store.root, "models/kind/1/model.safetensors"),
        sha256=ids.digest_bytes(b"weights"),
        bytes=7,
        added_at="2026-01-01T00:00:01+00:00",
        stages=(),
        card={"labels": ["a", "b"], "licence": None},
    )
    place, key = blobs.locate(entry.uri)
    assert blobs.open_store(place).get(key) == b"weights"


def test_add__same_bytes_add_nothing(registry: Registry, store: BlobStore) -> None:
    entry = registry.add("kind", b"weights", {"labels": []})
    before = list(store.walk())
    assert registry.add("kind", b"weights", {"labels": ["other"]}) == entry
    assert registry.add("kind", b"weights", {}, version="1") == entry
    assert list(store.walk()) == before


def test_versions__count_up_and_newest_is_last(registry: Registry) -> None:
    for number in range(1, 12):
        assert registry.add("kind", b"%d" % number, {}).version == str(number)
    registry.add("kind", b"named", {}, version="hotfix")
    assert registry.add("kind", b"12", {}).version == "12"
    registry.add("defect", b"other", {})
    expected = [*map(str, range(1, 12)), "hotfix", "12"]
    assert [entry.version for entry in registry.entries("kind")] == expected
    assert [(entry.name, entry.version) for entry in registry.entries()] == [
        ("defect", "1"),
        *(("kind", version) for version in expected),
    ]
    assert registry.resolve("kind").version == "12"
    assert registry.resolve("models/kind@hotfix").sha256 == ids.digest_bytes(b"named")


def test_add__version_with_other_bytes(registry: Registry) -> None:
    registry.add("kind", b"one", {}, version="2026")
    with pytest.raises(ModelError, match="kind@2026 is there already, with other bytes"):
        registry.add("kind", b"two", {}, version="2026")
    assert registry.add("kind", b"two", {}).version == "2027"


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "stages", "a b", "x" * 101])
def test_add__bad_names(local: Registry, name: str) -> None:
    with pytest.raises(ModelError, match="cannot be a model's name"):
        local.add(name, b"", {})
    with pytest.raises(ModelError, match="cannot be a model's version"):
        local.add("fine", b"", {}, version=name)


def test_add__half_left_by_a_kill_is_no_version(registry: Registry, store: BlobStore) -> None:
    registry.add("kind", b"one", {})
    store.put("models/kind/2/model.safetensors", b"two, then killed")
    assert [entry.version for entry in registry.entries("kind")] == ["1"]
    assert registry.add("kind", b"three", {}).version == "3"
    assert registry.add("kind", b"two, then killed", {}).version == "4"


def test_add__half_left_is_taken_over_by_the_same_bytes(local: Registry, tmp_path: Path) -> None:
    (tmp_path / "models/kind/1").mkdir(parents=True)
    (tmp_path / "models/kind/1/model.safetensors").write_bytes(b"one")
    assert local.add("kind", b"one", {"again": True}).card == {"again": True}
    assert [entry.version for entry in local.entries("kind")] == ["1"]


def test_add__eight_at_once_get_eight_versions(store: BlobStore) -> None:
    start, found = threading.Barrier(8), []

    def add(number: int) -> None:
        start.wait()
        found.append(Registry(store).add("kind", b"%d" % number, {}))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.version for entry in found) == [str(number) for number in range(1, 9)]
    assert len(Registry(store).entries("kind")) == 8


def test_promote__stage_moves_and_history_stays(registry: Registry, store: BlobStore) -> None:
    for data in (b"one", b"two"):
        registry.add("kind", data, {})
    assert registry.promote("kind", "1", "prod").stages == ("prod",)
    registry.promote("kind", "1", "canary")
    assert registry.resolve("kind@prod").stages == ("canary", "prod")
    registry.promote("kind", "2", "prod")
    assert registry.promote("kind", "2", "prod").stages == ("prod",)
    assert registry.resolve("kind@prod").version == "2"
    assert registry.resolve("kind@canary").version == "1"
    log = [json.loads(store.get(info.key)) for info in store.walk("models/kind/stages/")]
    assert [(record["stage"], record["version"]) for record in log] == [("prod", "1"), ("canary", "1"), ("prod", "2")]
    assert len({record["at"] for record in log}) == 3


FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


def test_add_folder__its_files_are_a_version_like_any_other(registry: Registry, store: BlobStore) -> None:
    registry.add("kind", b"weights", {})
    entry = registry.add_folder("kind", FILES, {"labels": ["a"]})
    assert (entry.version, entry.sha256, entry.bytes, entry.is_folder) == ("2", ids.digest_files(FILES), 9, True)
    place = blobs.open_store(uri.parse(entry.uri))
    assert {info.key: place.get(info.key) for info in place.walk()} == FILES
    before = list(store.walk())
    assert registry.add_folder("kind", FILES, {"labels": ["other"]}) == entry
    assert registry.add_folder("kind", FILES, {}, version="2") == entry
    assert list(store.walk()) == before
    assert registry.add_folder("kind", FILES | {"config.json": b"[]"}, {}).version == "3"
    registry.promote("kind", "2", "prod")
    registry.promote("kind", "3", "prod")
    assert registry.rollback("kind", "prod").uri == entry.uri
    assert [one.is_folder for one in registry.entries("kind")] == [False, True, True]
    with pytest.raises(ModelError, match="kind@2 is there already, with other bytes"):
        registry.add("kind", b"weights", {}, version="2")
    with pytest.raises(ModelError, match="kind@3 is a folder, where one file is needed"):
        registry.read(registry.resolve("kind@3"))


def test_add_folder__half_left_by_a_kill_is_no_version_and_in_nobodys_way(registry: Registry, store: BlobStore) -> None:
    half = registry.add_folder("kind", FILES, {})
    folder = half.uri.rpartition("/")[2]
    store.put(f"models/kind/2/{folder}/config.json", b"{}")
    store.put("models/kind/3/folder-" + "0" * 32 + "/config.json", b"of another one")
    assert [entry.version for entry in registry.entries("kind")] == ["1"]
    other = registry.add_folder("kind", FILES | {"more.json": b"1"}, {})
    assert other.version == "2"
    place = blobs.open_store(uri.parse(other.uri))
    assert sorted(info.key for info in place.walk()) == ["config.json", "model.safetensors", "more.json"]


def test_add_folder__eight_at_once_get_eight_versions(store: BlobStore) -> None:
    start, found = threading.Barrier(8), []

    def add(number: int) -> None:
        start.wait()
        found.append(Registry(store).add_folder("kind", FILES | {"config.json": b"%d" % number}, {}))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.version for entry in found) == [str(number) for number in range(1, 9)]
    for entry in found:
        place = blobs.open_store(uri.parse(entry.uri))
        assert ids.digest_files({info.key: place.get(info.key) for info in place.walk()}) == entry.sha256


@pytest.mark.parametrize(("version", "stage"), [("1", "2"), ("prod", "next"), ("1", "hotfix")])
def test_promote__version_and_stage_are_not_mixed_up(local: Registry, version: str, stage: str) -> None:
    local.add("kind", b"one", {})
    local.add("kind", b"named", {}, version="hotfix")
    local.promote("kind", "1", "prod")
    with pytest.raises(ModelError, match="cannot promote"):
        local.promote("kind", version, stage)


@pytest.mark.parametrize(
    ("reference", "said", "hint"),
    [
        ("knid", "has no model 'knid' (asked for 'knid'); it has defect, kind", "did you mean kind?"),
        ("zzz@prod", "has no model 'zzz'", "winnow models add NAME FILE"),
        ("../x", "has no model '../x'", "winnow models add NAME FILE"),
        ("kind@prd", "has no version or stage 'prd'; it has 1, prod", "did you mean kind@prod?"),
        ("kind@7", "has no version or stage '7'; it has 1, prod", "winnow models promote kind VERSION 7"),
        ("kind@", "has no version or stage ''", "winnow models promote kind VERSION STAGE"),
    ],
)
def test_resolve__unknown(local: Registry, reference: str, said: str, hint: str) -> None:
    local.add("kind", b"one", {})
    local.add("defect", b"one", {})
    local.promote("kind", "1", "prod")
    with pytest.raises(ModelError) as caught:
        local.resolve(reference)
    assert said in caught.value.message
    assert caught.value.hint == hint


def test_resolve__empty_registry(local: Registry) -> None:
    assert local.entries() == []
    with pytest.raises(ModelError, match="it has none"):
        local.resolve("kind@prod")


@pytest.mark.parametrize("damaged", [b"{", b"[]", b"{}"])
def test_resolve__damaged_files(local: Registry, tmp_path: Path, damaged: bytes) -> None:
    local.add("kind", b"one", {})
    (tmp_path / "models/kind/1/card.json").write_bytes(damaged)
    with pytest.raises(StoreError, match=r"card\.json is not what the registry wrote"):
        local.resolve("kind")


def test_keep_verdict__stands_beside_the_version_and_is_no_version(registry: Registry) -> None:
    entry = registry.add("kind", b"weights", {})
    first = registry.keep_verdict(entry, {"promote": False, "gold": 20})
    assert registry.keep_verdict(entry, {"promote": False, "gold": 20}) == first
    registry.keep_verdict(entry, {"promote": True, "gold": 300})
    assert [one["verdict"]["gold"] for one in registry.verdicts(entry)] == [20, 300]
    assert registry.verdicts(entry)[0]["at"].startswith("2026-01-01T")
    assert [one.version for one in registry.entries("kind")] == ["1"]
    assert registry.verdicts(registry.add("kind", b"other", {})) == []
