"""Which pictures does Label Studio show of an item? Its own or a copy that browsers open, and its neighbours'."""

import io
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import boto3
import httpx
from PIL import Image

from tests.annotation.examples import LABELS, item, neighbours, render
from tests.annotation.people import Person
from tests.annotation.test_push import images, project_of
from tests.servers.s3 import S3Server
from winnow_annotation.kinds.embed import NO_PICTURE
from winnow_annotation.label_studio import LabelStudioClient, S3Access
from winnow_annotation.push import push
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.people import _render
from winnow_storage.blobs import BlobStore
from winnow_storage.ledger import Ledger
from winnow_workers.decode import DecodeLimits
from winnow_workers.fetch import Fetcher


def test_push__a_tiff_gets_a_copy_that_browsers_open(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    tmp_path: Path,
) -> None:
    (uri,) = images(tmp_path / "images", 1, "tif")
    push(client, ledger, [item("kind", uri, job=job, format="tiff")], output=output, labels=LABELS, render=render)
    person = Person(label_studio)
    (task,) = person.tasks(project_of(ledger, client, job))
    answer = httpx.get(f"{client.url}{task['data']['image']}", headers=person._headers)
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (40, 30))
    assert task["data"]["uri"] == uri


def test_push__neighbours_are_served_as_the_image_is_and_one_that_cannot_be_shown_is_left_out(
    label_studio: LabelStudioServer, ledger: Ledger, output: BlobStore, s3: S3Server, s3_bucket: str, job: str
) -> None:
    bucket = urlsplit(s3_bucket).netloc
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG")
    with closing(boto3.client("s3")) as store:
        for name in ("asked.png", "beside.png"):
            store.put_object(Bucket=bucket, Key=name, Body=buffer.getvalue())
        store.put_object(Bucket=bucket, Key="replaced.tif", Body=b"II*\0 no picture any more")
    access = S3Access(s3.endpoint_url, "us-east-1", s3.access_key, s3.secret_key)
    client = LabelStudioClient(label_studio.url, label_studio.token, s3=access)
    beside = neighbours(*(f"{s3_bucket}/{name}" for name in ("gone.tif", "replaced.tif", "beside.png")))
    embedding = item("look", f"{s3_bucket}/asked.png", job=job, format="png", neighbours=beside)
    looked_up = partial(_render, fetcher=Fetcher(DecodeLimits()))
    assert push(client, ledger, [embedding], output=output, labels={}, render=looked_up).sent == 1
    person = Person(label_studio)
    (there,) = person.tasks(project_of(ledger, client, job, "look"))
    data = person.ask("GET", f"/api/tasks/{there['id']}/")["data"]  # as the labelling page asks for it
    for name in ("image", "neighbour_1"):
        served = httpx.get(urljoin(client.url, data[name]), headers=person._headers)
        assert (served.status_code, served.content) == (200, buffer.getvalue()), name
    assert [one["key"] for one in data["neighbours"]] == ["beside.png"]
    assert {data[f"neighbour_{place}"] for place in (2, 3, 4)} == {NO_PICTURE}
