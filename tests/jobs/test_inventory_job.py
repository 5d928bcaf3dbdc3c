"""A whole job over an S3 Inventory: what lies in a cold storage class is named by the plan, and nobody asks for it."""

from pathlib import Path

import pytest

from tests.e2e.winnow import photographs
from tests.faults.over_s3 import assert_sound, rows, run_in_this_process
from tests.jobs.test_plan_command import planned
from tests.servers.faulty_s3 import faulty_s3
from tests.servers.s3 import S3Server
from tests.storage.test_inventory import Row, publish
from winnow_jobs.cli import main
from winnow_storage.blobs import open_store
from winnow_storage.uri import parse

SPEC = """\
name: shelves
corpus: {{uri: "{bucket}/photos/", inventory: "{inventory}"}}
output: {bucket}/out
tasks: [{{name: vector, operator: embed, model: builtin/fingerprint}}]
"""
COLD = "photos/0001.jpg"


def test_run__what_an_inventory_calls_cold_is_named_and_not_fetched(
    s3: S3Server, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(parse(s3_bucket))
    for path in photographs(tmp_path / "photos", 4):
        store.put(f"photos/{path.name}", path.read_bytes())
    inventory = publish(s3_bucket, [[inventory_row(one.key, one.bytes, one.version) for one in store.walk("photos/")]])
    store.put("photos/later.jpg", b"came after the inventory")
    spec = tmp_path / "job.yaml"
    spec.write_text(SPEC.format(bucket=s3_bucket, inventory=inventory))

    code, record = planned(capsys, spec)
    assert (code, record["corpus_items"], record["due_items"]) == (0, 3, 3)
    assert (record["cold_items"], record["cold_examples"]) == (1, ["0001.jpg"])
    with pytest.raises(SystemExit):
        main(["plan", str(spec)])
    assert "in cold storage, not fetched: 1 image (0001.jpg)" in capsys.readouterr().out

    with faulty_s3(s3, lambda _: None) as proxy, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        run_in_this_process(spec)
        asked_for = {one.request.key for one in proxy.log}
    assert rows(f"{s3_bucket}/out")["key"].to_pylist() == ["0000.png", "0002.png", "0003.jpg"]
    assert_sound(f"{s3_bucket}/out")
    assert "photos/0000.png" in asked_for
    assert COLD not in asked_for


def inventory_row(key: str, size_bytes: int, version: str) -> Row:
    return Row(key, size_bytes, version, storage_class="GLACIER" if key == COLD else "STANDARD")
