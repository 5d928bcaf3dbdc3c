"""What a person gets wrong, and what the world does: one clear message, the right exit code, no traceback."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.winnow import Ended, photographs, winnow, write_spec


def refused(ended: Ended, code: int, *expected: str) -> None:
    assert ended.code == code, ended
    assert ended.out == ""
    assert "Traceback" not in ended.err
    said = " ".join(ended.err.split())
    for text in expected:
        assert text in said, said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photographs(tmp_path / "photos", 3)
    return tmp_path


def test_wrong_usage(folder: Path) -> None:
    spec = write_spec(folder)
    refused(winnow("run", cwd=folder), 2, "Missing argument 'SPEC'")
    refused(winnow("run", "absent.yaml", cwd=folder), 2, "there is no spec file absent.yaml")
    refused(winnow("run", spec, "--retry", "dnoe", cwd=folder), 2, "--retry 'dnoe': no outcome", "allowed: unreadable")
    refused(winnow("run", spec, "--tasks", "kinds", cwd=folder), 2, "--tasks names 'kinds'", "its tasks: vector, kind")
    refused(winnow("resume", "0009", "--output", folder / "out", cwd=folder), 2, "has no run 0009")
    refused(winnow("push", spec, cwd=folder), 2, "names no Label Studio")


def test_wrong_models(folder: Path) -> None:
    spec = write_spec(folder)
    text = spec.read_text()
    spec.write_text(text.replace("builtin/fingerprint", "models/absent@prod"))
    refused(winnow("run", spec, cwd=folder), 2, "absent")
    spec.write_text(text.replace("torchvision/squeezenet1_1", "torchvision/squeezenet1_2"))
    refused(winnow("run", spec, cwd=folder), 2, "squeezenet1_1")
    (folder / "weights.safetensors").write_text("no weights at all")
    spec.write_text(text.replace("{random: 1}", "{uri: weights.safetensors}"))
    refused(winnow("run", spec, cwd=folder), 2, "is not a safetensors file")
    assert not (folder / "out/runs/0001/results").exists()


def test_wrong_places(folder: Path) -> None:
    refused(winnow("run", write_spec(folder, corpus="nowhere"), cwd=folder), 2, "nowhere")
    refused(winnow("run", write_spec(folder, corpus="gs://bucket/x"), cwd=folder), 2, "'gs' is not supported")
    (folder / "file").write_text("in the way")
    refused(winnow("run", write_spec(folder, output="file/out"), cwd=folder), 4, "file/out")
    unreachable = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    spec = write_spec(folder, corpus="s3://photos/2026")
    refused(winnow("run", spec, cwd=folder, environ=unreachable), 4, "127.0.0.1:9")


def test_json_errors_are_one_record(folder: Path) -> None:
    ended = winnow("validate", "absent.yaml", "--json", cwd=folder)
    assert ended.code == 2
    assert ended.record["exit_code"] == 2
    assert "there is no spec file" in ended.record["error"]


def test_a_dead_label_studio_loses_nothing(folder: Path) -> None:
    more = (
        'review: {label_studio: {url: "http://127.0.0.1:9", token: "${LABEL_STUDIO_TOKEN}"}, '
        "policies: {kind: {uncalibrated: review}}}\n"
    )
    spec = write_spec(folder, more=more)
    environ = {"LABEL_STUDIO_TOKEN": "0123456789abcdef"}
    ended = winnow("run", spec, "--json", cwd=folder, environ=environ)
    assert ended.code == 4, ended.err
    assert ended.record["state"] == "done"
    assert ended.record["review"]["selected"] == 3
    assert ended.record["review"]["pushed"] == 0
    assert "the results are committed" in ended.err
    assert "127.0.0.1:9" in ended.err
    assert f"winnow push {spec}" in ended.err
    told = winnow("status", spec, "--json", cwd=folder, environ=environ)
    assert told.record["review"]["kind"]["tasks"] == {"pending": 3}
    refused(winnow("push", spec, cwd=folder, environ=environ), 4, "127.0.0.1:9")


def test_a_corpus_that_goes_away_ends_as_missing(folder: Path) -> None:
    spec = write_spec(folder)
    (folder / "list.csv").write_text("uri\nphotos/0000.png\nphotos/gone.png\n")
    spec = write_spec(folder, corpus="list.csv")
    ended = winnow("run", spec, "--json", cwd=folder)
    assert ended.code == 3, ended.err
    assert (ended.record["outcomes"]["done"], ended.record["outcomes"]["missing"]) == (1, 1)
    shutil.rmtree(folder / "out")


def test_doctor_names_every_failure_and_what_to_do(folder: Path) -> None:
    spec = write_spec(folder, corpus="nowhere", more='review: {label_studio: {url: "http://127.0.0.1:9"}}\n')
    ended = winnow("doctor", spec, "--json", cwd=folder, environ={"LABEL_STUDIO_TOKEN": "0123456789abcdef"})
    assert ended.code == 4, ended.err
    checks = {check["name"]: check for check in ended.record["checks"]}
    assert {name for name, check in checks.items() if not check["ok"]} == {"corpus", "an image", "label studio"}
    assert all(check["hint"] for check in checks.values() if not check["ok"])
    assert set(checks) == {
        "spec and models", "corpus", "an image", "output", "ledger", "ray and device", "model of vector",
        "model of kind", "label studio",
    }  # fmt: skip
