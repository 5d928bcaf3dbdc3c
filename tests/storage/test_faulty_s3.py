"""Does every promise of the S3 store hold on a real server behind a bad network? A proxy spoils what it is told to."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from tests.servers.faulty_s3 import Fault, FaultyS3, Kind, Plan, S3Request, faulty_s3, first, seeded
from tests.servers.s3 import S3Server
from tests.storage.fake_time import FakeTime
from tests.storage.shard_rows import receipt, shard_rows
from winnow_storage import probe, s3_listing, shards
from winnow_storage.blobs import Blob, BlobInfo
from winnow_storage.errors import StoreError, StoreUnavailable
from winnow_storage.listing import CorpusSource, stream_corpus
from winnow_storage.s3_pages import S3Pages
from winnow_storage.s3_store import S3Store
from winnow_storage.uri import parse

STALL_S = 0.5
ON_THE_WAY = (Kind.SLOW_DOWN, Kind.INTERNAL, Kind.RESET_BEFORE, Kind.RESET_AFTER, Kind.LIE)
STALLS = (Kind.STALL_BEFORE, Kind.STALL_AFTER)
IN_THE_BODY = (Kind.CUT, Kind.SHORTEN, Kind.CORRUPT)
AFTER_IT_WAS_DONE = (Kind.RESET_AFTER, Kind.LIE, Kind.STALL_AFTER)
DATA = bytes(range(256)) * 300


@dataclass(frozen=True, slots=True)
class Network:
    """`direct` is the bucket as it is; `store()` is another client of it, each time, through the proxy."""

    bucket: str
    direct: S3Store
    proxy: FaultyS3

    def store(self, *, read_timeout_s: float = 5.0) -> S3Store:
        return S3Store(parse(self.bucket), retrying=FakeTime().retrying(), read_timeout_s=read_timeout_s)


Through = Callable[[Plan], AbstractContextManager[Network]]


@pytest.fixture
def through(s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Through:
    @contextmanager
    def open_network(plan: Plan) -> Iterator[Network]:
        direct = S3Store(parse(s3_bucket))
        assert list(direct.walk()) == []  # its client now is made, for the server itself
        with faulty_s3(s3, plan) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
            yield Network(s3_bucket, direct, proxy)

    return open_network


def patience_s(kind: Kind) -> float:
    """A read time-out that a stall of this test breaks, and nothing else does."""
    return STALL_S / 2 if kind in STALLS else 5.0


def endless(kind: Kind, *, method: str) -> Plan:
    """Every request of `method`, spoiled at another place each time."""

    def plan(request: S3Request) -> Fault | None:
        return Fault(kind, STALL_S, (0.1 + request.occurrence * 0.37) % 1) if request.method == method else None

    return plan


def twice(kind: Kind, *, method: str) -> Plan:
    """The first two requests of `method` for a key, spoiled at two places."""
    spoiling = endless(kind, method=method)
    return lambda request: spoiling(request) if request.occurrence < 2 else None


@pytest.mark.parametrize("kind", [*ON_THE_WAY, *STALLS, *IN_THE_BODY])
@pytest.mark.parametrize("way", ["read", "read_bulk"])
def test_read__after_two_faults(through: Through, kind: Kind, way: str) -> None:
    with through(twice(kind, method="GET")) as network:
        network.direct.put("a", DATA)
        info = network.direct.info("a")
        assert info is not None
        store = network.store(read_timeout_s=patience_s(kind))
        assert getattr(store, way)("a") == Blob(DATA, info.version)
    assert network.proxy.done[kind] == 2


def test_read__bytes_damaged_in_many_places(through: Through) -> None:
    rates = {Kind.CORRUPT: 0.4, Kind.SHORTEN: 0.3, Kind.CUT: 0.2}
    with through(seeded(7, rates)) as network:
        bodies = {f"{number}": os.urandom(1000 + number) for number in range(30)}
        for key, body in bodies.items():
            network.direct.put(key, body)
        store = network.store()
        assert {key: store.get(key) for key in bodies} == bodies
        assert all(network.proxy.done[kind] > 5 for kind in rates)


@pytest.mark.parametrize("kind", [*ON_THE_WAY, *IN_THE_BODY])
def test_read__without_end(through: Through, kind: Kind) -> None:
    with through(endless(kind, method="GET")) as network:
        network.direct.put("a", DATA)
        with pytest.raises(StoreUnavailable, match=r"tried \d+ times"):
            network.store().get("a")
        assert network.proxy.done[kind] >= 20


@pytest.mark.parametrize("kind", [*ON_THE_WAY, Kind.CUT, Kind.SHORTEN])
def test_get_range__after_two_faults(through: Through, kind: Kind) -> None:
    with through(twice(kind, method="GET")) as network:
        network.direct.put("a", DATA)
        assert network.store().get_range("a", 1000, 500) == DATA[1000:1500]
        assert network.proxy.done[kind] == 2


@pytest.mark.parametrize("kind", [*ON_THE_WAY, *STALLS])
def test_info__after_two_faults(through: Through, kind: Kind) -> None:
    with through(twice(kind, method="HEAD")) as network:
        network.direct.put("a", DATA)
        store = network.store(read_timeout_s=patience_s(kind))
        assert store.info("a") == network.direct.info("a")
    assert network.proxy.done[kind] == 2


def test_info__absent_is_not_said_by_a_fault(through: Through) -> None:
    with through(endless(Kind.SLOW_DOWN, method="HEAD")) as network, pytest.raises(StoreUnavailable):
        network.store().info("a")


def test_walk__every_page_after_every_fault(through: Through) -> None:
    spoiled = (*ON_THE_WAY, Kind.CUT, Kind.SHORTEN)
    faults = [*(Fault(kind) for kind in spoiled), Fault(Kind.SHORTEN, place=0.0)]

    def plan(request: S3Request) -> Fault | None:
        """Each fault once, then one page; and again."""
        turn = request.occurrence % (len(faults) + 1)
        return faults[turn] if request.key == "" and turn < len(faults) else None

    with through(plan) as network:
        keys = [f"{number:05d}" for number in range(1010)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: network.direct.put(key, b""), keys))
        store = network.store()
        assert [info.key for info in store.walk()] == keys
        assert network.proxy.done == dict.fromkeys(spoiled, 2) | {Kind.SHORTEN: 4}
        assert store.folders() == []


def test_walk__without_end(through: Through) -> None:
    with through(endless(Kind.SHORTEN, method="GET")) as network:
        network.direct.put("a", b"")
        with pytest.raises(StoreUnavailable, match="list"):
            list(network.store().walk())


@pytest.mark.parametrize("kind", [*ON_THE_WAY, *STALLS, Kind.CONFLICT, Kind.CORRUPT_SENT])
def test_put_if_absent__after_two_faults_it_knows_its_own(through: Through, kind: Kind) -> None:
    with through(twice(kind, method="PUT")) as network:
        assert network.store(read_timeout_s=patience_s(kind)).put_if_absent("a", DATA)
        assert network.direct.get("a") == DATA
        assert not network.store().put_if_absent("a", b"another")
        assert network.direct.get("a") == DATA
    assert network.proxy.done[kind] == (1 if kind is Kind.LIE else 2)  # a 412 is no lie


@pytest.mark.parametrize("kind", [*ON_THE_WAY, Kind.CONFLICT, Kind.CORRUPT_SENT])
def test_put_if_absent__without_end_it_says_so(through: Through, kind: Kind) -> None:
    with through(endless(kind, method="PUT")) as network:
        store = network.store()
        if kind is Kind.LIE:  # the second put is told 412, which no fault hides
            assert store.put_if_absent("a", DATA)
        else:
            with pytest.raises(StoreUnavailable, match=r"tried 20 times"):
                store.put_if_absent("a", DATA)
        done = network.direct.info("a") is not None
        assert done == (kind in AFTER_IT_WAS_DONE)
        assert not done or network.direct.get("a") == DATA


@pytest.mark.parametrize("kind", [*ON_THE_WAY, Kind.CORRUPT_SENT])
def test_put__after_two_faults(through: Through, kind: Kind) -> None:
    with through(twice(kind, method="PUT")) as network:
        network.store().put("a", DATA)
        assert network.proxy.done[kind] == 2
        assert network.direct.get("a") == DATA


def test_put_if_absent__a_request_that_arrives_after_its_own_retry(through: Through) -> None:
    with through(first(1, Kind.STALL_BEFORE, method="PUT", stall_s=STALL_S)) as network:
        assert network.store(read_timeout_s=STALL_S / 2).put_if_absent("a", DATA)
        assert network.direct.get("a") == DATA
    statuses = Counter(handled.status for handled in network.proxy.log if handled.request.method == "PUT")
    assert statuses[200] == 1
    assert statuses[412] >= 1
    assert network.direct.get("a") == DATA


def commit(store: S3Store, attempt: str) -> tuple[shards.Receipt, bool]:
    mine = receipt(attempt=attempt)
    return shards.commit_shard(store, shards.encode_shard(shard_rows(), mine), mine)


@pytest.mark.parametrize("kind", [*ON_THE_WAY, *STALLS, Kind.CONFLICT, Kind.CORRUPT_SENT])
def test_commit_shard__after_a_fault_it_is_this_attempts_own(through: Through, kind: Kind) -> None:
    with through(first(1, kind, method="PUT", stall_s=STALL_S)) as network:
        assert commit(network.store(read_timeout_s=patience_s(kind)), "first") == (receipt(attempt="first"), True)
        assert commit(network.store(), "second") == (receipt(attempt="first"), False)
    assert network.proxy.done[kind] == 1


def test_commit_shard__another_commits_while_the_first_put_is_lost(through: Through) -> None:
    def plan(request: S3Request) -> Fault | None:
        if request.method == "PUT" and request.occurrence == 0:
            assert commit(network.direct, "another") == (receipt(attempt="another"), True)
            return Fault(Kind.RESET_BEFORE)
        return None

    with through(plan) as network:
        assert commit(network.store(), "first") == (receipt(attempt="another"), False)
        assert network.proxy.done == {Kind.RESET_BEFORE: 1}


@pytest.mark.parametrize("kind", [*ON_THE_WAY, *IN_THE_BODY])
def test_commit_shard__footer_of_the_other_comes_through_faults(through: Through, kind: Kind) -> None:
    with through(twice(kind, method="GET")) as network:
        commit(network.direct, "another")
        assert commit(network.store(), "first") == (receipt(attempt="another"), False)
        assert network.proxy.done[kind] >= 1  # damage to a part that nobody reads is not noticed


def test_read_receipt__damage_anywhere_is_never_believed(through: Through) -> None:
    places = [number / 61 for number in range(61)]

    def plan(request: S3Request) -> Fault | None:
        spoil = request.method == "GET" and request.occurrence % 2 == 0
        return Fault(Kind.CORRUPT, place=places[request.occurrence // 2 % len(places)]) if spoil else None

    with through(plan) as network:
        commit(network.direct, "first")
        store = network.store()
        for _ in places:
            assert shards.read_receipt(store, shards.shard_key("0001", 0)) == receipt(attempt="first")
        assert network.proxy.done[Kind.CORRUPT] > 30


@pytest.mark.parametrize("seed", range(4))
def test_commit_shard__six_writers_one_commit(through: Through, seed: int) -> None:
    rates = dict.fromkeys((*ON_THE_WAY, *IN_THE_BODY, Kind.CONFLICT, Kind.CORRUPT_SENT), 0.07)
    with through(seeded(seed, rates)) as network:
        start = threading.Barrier(6)

        def write(number: int) -> list[tuple[shards.Receipt, bool]]:
            store, found = network.store(), []
            for shard in range(5):
                mine = receipt(shard, attempt=f"{number}")
                data = shards.encode_shard(shard_rows(shard), mine)
                start.wait()
                found.append(shards.commit_shard(store, data, mine))
            return found

        with ThreadPoolExecutor(6) as pool:
            found = [answer for future in [pool.submit(write, n) for n in range(6)] for answer in future.result()]
        assert len(network.proxy.done) >= 6
        stored = {shard: shards.read_receipt(network.direct, info.key) for shard, info in committed(network).items()}
        assert list(stored) == list(range(5))
        assert all(answer == stored[answer.shard] for answer, _ in found)
        assert Counter(answer.shard for answer, created in found if created) == dict.fromkeys(range(5), 1)


def committed(network: Network) -> dict[int, BlobInfo]:
    return shards.committed_shards(network.direct, "0001")


def ignoring(request: S3Request) -> Fault | None:
    return Fault(Kind.UNCONDITIONAL) if request.conditional else None


def refusing(request: S3Request) -> Fault | None:
    return Fault(Kind.NO_SUCH_FEATURE) if request.conditional else None


@pytest.mark.parametrize(
    ("plan", "kind"), [(ignoring, Kind.UNCONDITIONAL), (refusing, Kind.NO_SUCH_FEATURE)], ids=["ignores", "says 501"]
)
def test_probe__store_without_conditional_puts(through: Through, plan: Plan, kind: Kind) -> None:
    with through(plan) as network:
        for _ in range(2):  # probed, then read from its record
            with pytest.raises(StoreError, match="does not honour conditional puts") as caught:
                probe.require_conditional_puts(network.store(), single_writer=False)
            assert "output.single_writer: true" in str(caught.value)
        assert network.proxy.done == {kind: 1 if kind is Kind.NO_SUCH_FEATURE else 2}
        probe.require_conditional_puts(network.store(), single_writer=True)
        assert network.direct.get(probe.RECORD) == b'{"conditional_put":false}'
        # a single writer's commits, one after the other
        assert commit(network.store(), "first") == (receipt(attempt="first"), True)


def test_put_if_absent__a_single_writer_on_a_store_that_says_501(through: Through) -> None:
    with through(refusing) as network:
        store = network.store()
        assert store.put_if_absent("a", b"first")
        assert not store.put_if_absent("a", b"second")
        assert network.direct.get("a") == b"first"


@pytest.mark.parametrize("seed", range(3))
def test_probe__good_store_is_not_misjudged_for_its_network(through: Through, seed: int) -> None:
    rates = dict.fromkeys((*ON_THE_WAY, Kind.CUT, Kind.CONFLICT), 0.08)
    with through(seeded(seed, rates)) as network:
        probe.require_conditional_puts(network.store(), single_writer=False)
        assert network.proxy.done.total() > 3
        assert network.direct.get(probe.RECORD) == b'{"conditional_put":true}'


def test_faulty_s3__a_plan_that_fails_fails_its_test(through: Through) -> None:
    def plan(request: S3Request) -> Fault | None:
        raise ValueError(f"no plan for {request.key}")

    with (
        pytest.raises(ExceptionGroup, match="its plan failed") as caught,
        through(plan) as network,
        pytest.raises(StoreUnavailable),
    ):
        network.store().get("a")
    assert "no plan for a" in str(caught.value.exceptions[0])


@pytest.mark.parametrize("way", ["read", "read_bulk", "get_range", "info"])
def test_announce_again__is_told_of_every_request_but_the_first(through: Through, way: str) -> None:
    kinds = [Kind.SLOW_DOWN, Kind.CORRUPT, Kind.RESET_AFTER, Kind.SHORTEN]

    def plan(request: S3Request) -> Fault | None:
        turn = request.occurrence
        return Fault(kinds[turn]) if request.method in ("GET", "HEAD") and turn < len(kinds) else None

    again: list[int] = []
    with through(plan) as network:
        network.direct.put("a", DATA)
        store = S3Store(parse(network.bucket), retrying=FakeTime().retrying(), announce_again=again.append)
        before = len(network.proxy.log)
        {
            "read": lambda: store.read("a"),
            "read_bulk": lambda: store.read_bulk("a"),
            "get_range": lambda: store.get_range("a", 10, 20),
            "info": lambda: store.info("a"),
        }[way]()
        assert store.info("absent") is None
        sent = len(network.proxy.log) - before
    assert sent > 4
    assert len(again) == sent - 2  # of two calls


def test_announce__is_told_of_every_request_of_a_listing(
    through: Through, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_listing, "FIRST_CUT_PAGES", 1)
    told: list[int] = []
    with through(first(2, Kind.SLOW_DOWN)) as network:
        for number in range(30):
            network.direct.put(f"photos/{number // 10}/{number:02}.png", b"x")
        pages = S3Pages(parse(network.bucket), page_rows=4, retrying=FakeTime().retrying(), announce=told.append)
        monkeypatch.setattr(s3_listing, "S3Pages", lambda root, announce: pages)
        assert sum(batch.num_rows for batch in s3_listing.list_prefix(parse(network.bucket), told.append)) == 30
        assert network.proxy.done[Kind.SLOW_DOWN] == 2
        assert len(told) == len(network.proxy.log) > 10


def test_announce__is_told_of_every_request_of_a_corpus_file(through: Through) -> None:
    told: list[int] = []
    with through(first(1, Kind.SLOW_DOWN, method="HEAD")) as network:
        for number in range(20):
            network.direct.put(f"photos/{number:02}.png", b"x")
        network.direct.put("list.csv", b"uri\n" + b"".join(b"photos/%02d.png\n" % at for at in range(21)))
        source = CorpusSource("c", parse(f"{network.bucket}/list.csv"), ())
        assert sum(batch.num_rows for batch in stream_corpus(source, told.append)) == 21
        assert network.proxy.done[Kind.SLOW_DOWN] == 23  # a look at each, at the file itself, and at the bucket
        assert len(told) == len(network.proxy.log)
