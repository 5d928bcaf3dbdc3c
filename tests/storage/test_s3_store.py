"""What does the S3 store say of failures that a healthy store does not show? Real refusals, and a scripted server."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.servers.faulty_s3 import faulty_s3
from tests.servers.s3 import S3Server
from tests.servers.scripted import Answer, Request, scripted_server
from tests.storage.fake_time import FakeTime
from tests.storage.scripted_s3 import answering, failure
from winnow_storage.errors import BlobArchived, BlobMissing, BlobRefused, StoreDenied, StoreError, StoreUnavailable
from winnow_storage.s3_store import S3Store
from winnow_storage.uri import parse


def test_bucket__missing(s3_bucket: str) -> None:
    store = S3Store(parse(f"{s3_bucket}-absent"))
    for call in (
        lambda: store.get("x"),
        lambda: store.info("x"),
        lambda: store.put("x", b""),
        lambda: store.put_if_absent("x", b""),
        lambda: list(store.walk()),
    ):
        with pytest.raises(StoreError, match="bucket") as caught:
            call()
        assert type(caught.value) is StoreError
        assert "make the bucket" in str(caught.value)


def test_quota__full(s3: S3Server, s3_bucket: str) -> None:
    name = s3_bucket.removeprefix("s3://")
    store = S3Store(parse(s3_bucket))
    store.put("a", b"fits")
    s3.admin("quota", "set", "--quota-scope=bucket", f"--bucket={name}", "--max-objects=1")
    s3.admin("quota", "enable", "--quota-scope=bucket", f"--bucket={name}")
    with pytest.raises(StoreError, match="QuotaExceeded") as caught:
        store.put_if_absent("b", b"does not")
    assert type(caught.value) is StoreError
    assert "free some space" in str(caught.value)


def test_bucket__of_somebody_else(s3: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.admin("user", "create", "--uid=other", "--display-name=other", "--access-key=other", "--secret-key=other")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    with pytest.raises(StoreDenied, match="AccessDenied"):
        S3Store(parse(s3_bucket)).put_if_absent("x", b"")


def test_credentials__none(aws: pytest.MonkeyPatch) -> None:
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreDenied, match="AWS_ACCESS_KEY_ID"):
        S3Store(parse("s3://bucket")).get("x")


def test_profile__unknown(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreDenied, match="nobody"):
        S3Store(parse("s3://bucket")).get("x")


def test_credentials__of_a_process_that_a_profile_names_and_that_gives_others_later(
    s3: S3Server, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member of boto3's chain whose keys expire, for both clients: they are asked for again before that."""
    given, settings = tmp_path / "given.json", tmp_path / "config"

    def give(access_key: str, secret_key: str) -> None:
        soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()  # botocore renews a quarter of an hour before
        keys = {"Version": 1, "AccessKeyId": access_key, "SecretAccessKey": secret_key, "Expiration": soon}
        given.write_text(json.dumps(keys))

    settings.write_text(f"[profile nightly]\nregion = us-east-1\ncredential_process = cat {given}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    monkeypatch.setenv("AWS_PROFILE", "nightly")
    give(s3.access_key, s3.secret_key)
    with faulty_s3(s3, lambda _: None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        store = S3Store(parse(s3_bucket))
        store.put("x", b"data")
        assert store.read_bulk("x").data == b"data"
        programs = [one.request.headers["user-agent"].split("/")[0] for one in proxy.log]
        assert programs[-1] == "object_store"
        first = [one.request.headers["authorization"] for one in proxy.log]
        assert all(f"Credential={s3.access_key}/" in one for one in first)

        s3.admin("key", "create", "--uid=winnow", "--key-type=s3", "--access-key=second", "--secret-key=of-later")
        give("second", "of-later")
        assert store.read("x").data == b"data"
        assert "Credential=second/" in proxy.log[-1].request.headers["authorization"]
    assert len(proxy.log) == len(first) + 1


def test_endpoint__malformed(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "not a url")
    with pytest.raises(StoreError, match="not a url"):
        S3Store(parse("s3://bucket")).get("x")


def test_endpoint__nobody_listens(aws: pytest.MonkeyPatch) -> None:
    with scripted_server(lambda _: Answer()) as url:
        pass
    aws.setenv("AWS_ENDPOINT_URL", url)
    time = FakeTime()
    with pytest.raises(StoreUnavailable, match=f"{url}.*tried 4 times"):
        S3Store(parse("s3://bucket"), retrying=time.retrying()).get("x")
    assert time.now_s < 4  # a person waits, and most likely the address is wrong


def test_endpoint__is_gone_after_it_answered(aws: pytest.MonkeyPatch) -> None:
    time = FakeTime()
    with scripted_server(lambda _: Answer(404, failure("NoSuchKey"))) as url:
        aws.setenv("AWS_ENDPOINT_URL", url)
        store = S3Store(parse("s3://bucket"), retrying=time.retrying())
        with pytest.raises(BlobMissing):
            store.get("x")
    with pytest.raises(StoreUnavailable, match=url):
        store.get("x")
    assert 30 < time.now_s <= 60  # it is known to be right: an outage may end


def test_endpoint__comes_back(aws: pytest.MonkeyPatch) -> None:
    time, down = FakeTime(), [Answer(503, failure("SlowDown"))] * 8
    answers = iter([*down, Answer(body=b"back", headers={"ETag": '"1-1"'})])
    with scripted_server(lambda _: next(answers)) as url:
        aws.setenv("AWS_ENDPOINT_URL", url)
        store = S3Store(parse("s3://bucket"), retrying=time.retrying())
        assert store.get("x") == b"back"
    assert time.waits_s == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 4.0, 4.0]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (500, "InternalError", StoreUnavailable),
        (429, "TooManyRequests", StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable),
        (400, "BadDigest", StoreUnavailable),
        (403, "InvalidObjectState", BlobArchived),
        (503, "SlowDown", StoreUnavailable),
        (403, "SignatureDoesNotMatch", StoreDenied),
        (403, "RequestTimeTooSkewed", StoreDenied),
        (404, "NoSuchKey", BlobMissing),
        (400, "AuthorizationHeaderMalformed", StoreError),
        (400, "TokenRefreshRequired", StoreDenied),
        (400, "InvalidRequest", BlobRefused),
        (400, "KMS.DisabledException", BlobRefused),
        (451, "SomethingNew", BlobRefused),
        (501, "SomethingNew", StoreError),
    ],
)
def test_get__answer_becomes_error(aws: pytest.MonkeyPatch, status: int, code: str, kind: type[StoreError]) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Answer:
        asked.append(request)
        return Answer(status, failure(code))

    with answering(aws, answer) as store, pytest.raises(StoreError) as caught:
        store.get("x")
    assert type(caught.value) is kind
    assert (len(asked) > 1) == (kind is StoreUnavailable)  # what is final is asked once
    assert f"{code} (HTTP {status}): said so" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.put("x", b""),
        lambda store: store.put_if_absent("x", b""),
        lambda store: list(store.walk()),
        lambda store: store.folders(),
    ],
)
def test_refused__is_said_of_reading_only(aws: pytest.MonkeyPatch, call: Callable[[S3Store], object]) -> None:
    refusal = Answer(400, failure("InvalidRequest"))
    with answering(aws, lambda _: refusal) as store, pytest.raises(StoreError, match="InvalidRequest") as caught:
        call(store)
    assert type(caught.value) is StoreError


@pytest.mark.parametrize(("code", "kind"), [("InvalidRequest", BlobRefused), ("ExpiredToken", StoreDenied)])
def test_info__a_refusal_is_heard_out(aws: pytest.MonkeyPatch, code: str, kind: type[StoreError]) -> None:
    asked: list[str] = []

    def answer(request: Request) -> Answer:
        asked.append(request.method)
        return Answer(400, b"" if request.method == "HEAD" else failure(code))

    with answering(aws, answer) as store, pytest.raises(StoreError, match=code) as caught:
        store.info("x")
    assert type(caught.value) is kind
    assert asked == ["HEAD", "HEAD", "GET"]  # the second is botocore's own, which looks for another region


def test_walk__answer_without_a_body(aws: pytest.MonkeyPatch) -> None:
    with answering(aws, lambda _: Answer()) as store, pytest.raises(StoreUnavailable, match="broke off"):
        list(store.walk())


def test_put_if_absent__conflict_is_tried_again(aws: pytest.MonkeyPatch) -> None:
    answers = iter([Answer(409, failure("ConditionalRequestConflict")), Answer(headers={"ETag": '"1"'})])
    with answering(aws, lambda _: next(answers)) as store:
        assert store.put_if_absent("x", b"data")


def test_put_if_absent__endless_conflict(aws: pytest.MonkeyPatch) -> None:
    conflict = Answer(409, failure("ConditionalRequestConflict"))
    with answering(aws, lambda _: conflict) as store, pytest.raises(StoreUnavailable, match="409"):
        store.put_if_absent("x", b"data")


def test_put_if_absent__one_conditional_request(aws: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []
    with answering(aws, lambda request: seen.append(request) or Answer(headers={"ETag": '"1"'})) as store:  # type: ignore[func-returns-value]
        assert store.put_if_absent("a b", b"data" * 5_000_000)
    assert [(request.method, request.path) for request in seen] == [("PUT", "/bucket/prefix/a%20b")]
    assert seen[0].headers["if-none-match"] == "*"


def test_put_if_absent__store_without_conditions(aws: pytest.MonkeyPatch) -> None:
    kept: dict[str, bytes] = {}

    def answer(request: Request) -> Answer:
        if "if-none-match" in request.headers:
            return Answer(501, failure("NotImplemented"))
        if request.method == "PUT":
            kept[request.path] = request.body
        if request.method == "HEAD" and request.path.endswith("/x") and request.path not in kept:
            return Answer(404)
        return Answer(headers={"ETag": '"1"'})

    with answering(aws, answer) as store:
        assert store.put_if_absent("x", b"first")
        assert not store.put_if_absent("x", b"second")
    assert [body for body in kept.values() if b"first" in body] == list(kept.values())


def test_put_if_absent__store_that_is_known_to_ignore_conditions(aws: pytest.MonkeyPatch) -> None:
    kept: dict[str, bytes] = {}

    def answer(request: Request) -> Answer:
        if request.method == "PUT":
            kept[request.path] = request.body
        return Answer(200 if request.path in {"/bucket", *kept} else 404, headers={"ETag": '"1"'})

    with answering(aws, answer) as store:
        store.conditional_puts = False
        assert store.put_if_absent("x", b"first")
        assert not store.put_if_absent("x", b"second")
    assert b"first" in kept["/bucket/prefix/x"]


def test_walk__folder_markers_are_no_objects(s3_bucket: str) -> None:
    outer, inner = S3Store(parse(s3_bucket)), S3Store(parse(f"{s3_bucket}/folder"))
    for key in ("folder/", "folder/a", "folder/sub/", "folder/sub/b", "folder2/c"):
        outer.put(key, b"")
    assert [info.key for info in inner.walk()] == ["a", "sub/b"]
    assert inner.folders() == ["sub"]
