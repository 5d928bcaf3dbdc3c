"""Tests of the client: what it says when Label Studio is away or refuses."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers.s3 import S3Server
from tests.servers.scripted import Answer, Request, scripted_server
from winnow_annotation.label_studio import LabelStudioClient, S3Access, connect
from winnow_annotation.policies import LabelStudioSpec
from winnow_jobs.demo.label_studio_server import LabelStudioServer, label_studio_server
from winnow_storage.errors import LabelStudioError, SpecError

LEGACY = "0" * 40


def test_whoami__with_either_kind_of_token(label_studio: LabelStudioServer, client: LabelStudioClient) -> None:
    assert client.whoami() == label_studio.email


def test_whoami__a_token_that_is_not_accepted(label_studio: LabelStudioServer) -> None:
    with pytest.raises(LabelStudioError, match="does not accept the token") as caught:
        LabelStudioClient(label_studio.url, LEGACY).whoami()
    assert "Personal Access Token" in (caught.value.hint or "")
    assert LEGACY not in str(caught.value)


def test_client__a_token_that_has_expired_is_seen_at_once() -> None:
    # {"exp": 1}, signed by nobody
    expired = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.AAAA"
    with pytest.raises(LabelStudioError, match="does not accept the token"):
        LabelStudioClient("http://127.0.0.1:9", expired)


def test_whoami__a_server_that_is_away() -> None:
    with pytest.raises(LabelStudioError, match="did not answer") as caught:
        LabelStudioClient("http://127.0.0.1:9", LEGACY).whoami()
    assert "review.label_studio.url" in (caught.value.hint or "")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("status", "message"), [(500, "failed with 500"), (418, "refused to log in: 418")])
def test_whoami__a_server_that_fails(status: int, message: str) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Answer:
        asked.append(request)
        return Answer(status, b"no")

    with scripted_server(answer) as url, pytest.raises(LabelStudioError, match=message):
        LabelStudioClient(url, LEGACY).whoami()
    assert len(asked) == 1


def test_whoami__a_gateway_that_answers_in_place_of_the_server() -> None:
    # {"exp": 99999999999}, signed by nobody: it has to be exchanged for another one first
    token = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjk5OTk5OTk5OTk5fQ.AAAA"
    page = Answer(502, b"<html>bad gateway</html>")
    with scripted_server(lambda _: page) as url, pytest.raises(LabelStudioError, match="something else than JSON"):
        LabelStudioClient(url, token).whoami()


def test_connect__takes_secrets_and_the_endpoint_from_the_environment() -> None:
    images = {"access_key_id": "${KEY}", "secret_access_key": "${SECRET}"}
    spec = LabelStudioSpec.model_validate({"url": "http://127.0.0.1:9/", "s3": images})
    environ = {"LABEL_STUDIO_TOKEN": LEGACY, "KEY": "k", "SECRET": "hidden", "AWS_ENDPOINT_URL": "http://127.0.0.1:8"}
    client = connect(spec, environ)
    assert client.url == "http://127.0.0.1:9"
    assert client._s3 == S3Access("http://127.0.0.1:8", None, "k", "hidden")
    assert "hidden" not in repr(client._s3)
    with pytest.raises(SpecError, match="LABEL_STUDIO_TOKEN is not set"):
        connect(spec, {})


def test_ensure_project__is_the_same_for_the_same_title_and_cuts_a_long_one(
    client: LabelStudioClient, job: str
) -> None:
    title = f"{job} {'x' * 60}"
    config = '<View><Image name="image" value="$image"/></View>'
    made = client.ensure_project(title, config)
    assert made.is_new
    assert client.ensure_project(title, config) == replace(made, is_new=False)
    assert client.project(made.id) == replace(made, is_new=False)
    assert client.project(10**9) is None


def test_ensure_folder__says_what_the_server_needs(client: LabelStudioClient, job: str, tmp_path: Path) -> None:
    project = client.ensure_project(job, '<View><Image name="image" value="$image"/></View>')
    client.ensure_folder(project.id, str(tmp_path))
    client.ensure_folder(project.id, str(tmp_path / "below"))  # covered, though it is not there
    with pytest.raises(LabelStudioError, match="refused to allow images") as caught:
        client.ensure_folder(project.id, "/nowhere")
    assert "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT" in (caught.value.hint or "")


def test_ensure_bucket__refuses_wrong_credentials(
    label_studio: LabelStudioServer, s3: S3Server, s3_bucket: str, job: str
) -> None:
    access = S3Access(s3.endpoint_url, "us-east-1", s3.access_key, "wrong")
    client = LabelStudioClient(label_studio.url, label_studio.token, s3=access)
    project = client.ensure_project(job, '<View><Image name="image" value="$image"/></View>')
    with pytest.raises(LabelStudioError, match="to allow images from s3") as caught:
        client.ensure_bucket(project.id, s3_bucket.removeprefix("s3://"))
    assert "review.label_studio.s3" in (caught.value.hint or "")


def test_label_studio_server__says_what_is_missing(tmp_path: Path) -> None:
    missing = tmp_path / "label-studio"
    with (
        pytest.raises(LabelStudioError, match="is not installed") as caught,
        label_studio_server(missing, tmp_path / "data", document_root=tmp_path),
    ):
        pass
    assert caught.value.hint == "make setup"


def test_label_studio_server__a_program_that_ends_shows_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "label-studio"
    broken.write_text("#!/bin/sh\necho no disk left\nexit 3\n")
    broken.chmod(0o700)
    with (
        pytest.raises(LabelStudioError, match=r"exit code 3\): no disk left"),
        label_studio_server(broken, tmp_path / "data", document_root=tmp_path),
    ):
        pass
