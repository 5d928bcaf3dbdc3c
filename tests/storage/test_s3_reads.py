"""Are the bytes that come those that are stored? Reads of a scripted server that breaks off, damages and bends them."""

import hashlib
import itertools

import pytest

from tests.servers.scripted import Answer, Request
from tests.storage.scripted_s3 import answering
from winnow_storage.blobs import Blob
from winnow_storage.errors import StoreUnavailable


def whole(body: bytes, etag: str = "1-1", **headers: str) -> Answer:
    return Answer(body=body, headers={"ETag": f'"{etag}"', **headers})


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_get__body_breaks_off_once(aws: pytest.MonkeyPatch) -> None:
    answers = iter([Answer(body=b"0123", headers={"ETag": '"1-1"'}, promised_bytes=10), whole(b"0123456789")])
    with answering(aws, lambda _: next(answers)) as store:
        assert store.get("x") == b"0123456789"


def test_get__body_always_breaks_off(aws: pytest.MonkeyPatch) -> None:
    broken = Answer(body=b"0123", headers={"ETag": '"1-1"'}, promised_bytes=10)
    with answering(aws, lambda _: broken) as store, pytest.raises(StoreUnavailable):
        store.get("x")


def test_read__etag_is_the_version(aws: pytest.MonkeyPatch) -> None:
    with answering(aws, lambda _: whole(b"data", md5(b"data"))) as store:
        assert store.read("x") == Blob(b"data", md5(b"data"))


def test_read__damaged_bytes_are_read_again(aws: pytest.MonkeyPatch) -> None:
    answers = iter([whole(b"dat", md5(b"data")), whole(b"date", md5(b"data")), whole(b"data", md5(b"data"))])
    with answering(aws, lambda _: next(answers)) as store:
        assert store.get("x") == b"data"


def test_read__never_the_same_twice(aws: pytest.MonkeyPatch) -> None:
    numbers = itertools.count()
    another = pytest.raises(StoreUnavailable, match="not with the same bytes twice")
    with answering(aws, lambda _: whole(b"%d" % next(numbers), md5(b"data"))) as store, another as caught:
        store.get("x")
    assert caught.value.hint


def test_read__etag_that_is_no_digest(aws: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []
    etag = md5(b"something else")

    def answer(request: Request) -> Answer:
        asked.append(request)
        return whole(b"data", etag)

    with answering(aws, answer) as store:
        assert store.read("x") == Blob(b"data", etag)
    assert [request.method for request in asked] == ["GET", "GET", "HEAD"]


def test_read__cut_short_the_same_way_each_time(aws: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Answer:
        return whole(b"data" if request.method == "HEAD" else b"da", md5(b"data"))

    with answering(aws, answer) as store, pytest.raises(StoreUnavailable, match="did not come whole"):
        store.read("x")


@pytest.mark.parametrize(
    "headers", [{"x-amz-server-side-encryption": "aws:kms"}, {"x-amz-server-side-encryption-customer-algorithm": "AES"}]
)
def test_read__etag_that_is_known_to_be_no_digest(aws: pytest.MonkeyPatch, headers: dict[str, str]) -> None:
    answers = iter([whole(b"data", md5(b"something else"), **headers)])
    with answering(aws, lambda _: next(answers)) as store:
        assert store.get("x") == b"data"


def test_read__replaced_between_two_reads(aws: pytest.MonkeyPatch) -> None:
    answers = iter([whole(b"damaged", md5(b"old")), whole(b"new", md5(b"new"))])
    with answering(aws, lambda _: next(answers)) as store:
        assert store.read("x") == Blob(b"new", md5(b"new"))


def test_read_bulk__one_signed_request(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_SESSION_TOKEN", "of-the-chain")
    seen: list[Request] = []

    def answer(request: Request) -> Answer:
        seen.append(request)
        return whole(b"data", md5(b"data"))

    with answering(aws, answer) as store:
        assert store.read_bulk("a b/é#%25.jpg") == Blob(b"data", md5(b"data"))
    assert [(request.method, request.path) for request in seen] == [("GET", "/bucket/prefix/a%20b/%C3%A9%23%2525.jpg")]
    assert seen[0].headers["x-amz-security-token"] == "of-the-chain"
    assert "Credential=any/" in seen[0].headers["authorization"]


def test_read_bulk__no_short_cut_where_it_never_leads_there(aws: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(request: Request) -> Answer:
        asked.append(request.headers["user-agent"].split("/")[0])
        return whole(b"data", md5(b"another"), **{"x-amz-server-side-encryption": "aws:kms"})

    with answering(aws, answer) as store:
        for _ in range(5):
            assert store.read_bulk("x").data == b"data"
    assert len(asked) == 3 * 2 + 2  # given up after three
    assert asked[-2:] == ["Boto3", "Boto3"] or asked[-2:] == ["Botocore", "Botocore"]


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "./a", "a/../b", "."])
def test_read_bulk__keys_that_only_boto_sends_as_they_are(aws: pytest.MonkeyPatch, key: str) -> None:
    seen = []

    def answer(request: Request) -> Answer:
        seen.append(request.path)
        return whole(b"data", md5(b"data"))

    with answering(aws, answer) as store:
        assert store.read_bulk(key) == store.read(key) == Blob(b"data", md5(b"data"))
    assert len(seen) == 2
    assert seen[0] == seen[1]


def part(body: bytes, content_range: str) -> Answer:
    return Answer(206, body, {"ETag": '"1-1"', "Content-Range": content_range})


def test_get_range__shorter_than_it_says(aws: pytest.MonkeyPatch) -> None:
    answers = iter([part(b"45", "bytes 4-6/10"), part(b"567", "bytes 5-7/10"), part(b"456", "bytes 4-6/10")])
    with answering(aws, lambda _: next(answers)) as store:
        assert store.get_range("x", 4, 3) == b"456"


def test_get_range__store_that_sends_the_whole(aws: pytest.MonkeyPatch) -> None:
    with answering(aws, lambda _: whole(b"0123456789")) as store:
        assert store.get_range("x", 4, 3) == b"456"
