"""Tests of what an annotator sees and sends: real Chromium, real Label Studio, images in folders and on S3."""

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page

from tests.annotation.examples import HEIGHT, LABELS, OPERATORS, PREDICTIONS, WIDTH, item, neighbours, render
from tests.servers.chromium import logged_in
from tests.servers.s3 import S3Server
from winnow_annotation.images import image_reference, image_sources
from winnow_annotation.label_studio import LabelStudioClient, S3Access
from winnow_annotation.labelling_config import labelling_config
from winnow_annotation.push import push
from winnow_annotation.tasks import review_task, value_of
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_storage.blobs import BlobStore
from winnow_storage.ledger import Ledger

READY = """([width, regions]) => {
  const shown = [...document.images].find(image => image.naturalWidth === width)
  const chosen = window.Htx?.annotationStore?.selected
  return shown !== undefined && chosen?.regions?.length === regions && chosen.results.length > 0
}"""


SHOWN = """(heights) => {
  const shown = [...document.images].map(image => image.naturalHeight)
  return heights.every(height => shown.includes(height)) && document.querySelectorAll("input[name=same]").length === 4
}"""


@pytest.fixture(scope="module")
def page(label_studio: LabelStudioServer) -> Iterator[Page]:
    with logged_in(label_studio) as opened:
        yield opened


def photograph() -> bytes:
    """A JPEG that is stored lying on its side and says so, with things where the predictions see them."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (225, 225, 210))
    draw = ImageDraw.Draw(picture)
    draw.ellipse([80, 60, 160, 140], fill=(120, 90, 40))
    draw.ellipse([275, 175, 325, 225], fill=(60, 60, 60))
    draw.text((24, 34), "first", fill="black")
    draw.text((205, 105), "second", fill="black")
    draw.rectangle([100, 100, 150, 150], outline="black")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", exif=exif, quality=95)
    return buffer.getvalue()


def stand_ready(client: LabelStudioClient, project_title: str, task: str, uri: str) -> tuple[int, int]:
    """A project with one review task about `uri`: their ids."""
    project = client.ensure_project(project_title, labelling_config(OPERATORS[task], LABELS.get(task, ())))
    sources = image_sources([uri], document_root=client.document_root)
    for folder in sources.folders:
        client.ensure_folder(project.id, folder)
    for bucket in sources.buckets:
        client.ensure_bucket(project.id, bucket)
    reference = image_reference(uri, document_root=client.document_root)
    (task_id,) = client.import_tasks(project.id, [review_task(item(task, uri), image=reference)])
    return project.id, task_id


def look(page: Page, url: str, ids: tuple[int, int], *, regions: int, shot: Path) -> Any:
    """Open a task, wait until image and pre-annotation are drawn; the sizes of the images on the page."""
    page.goto(f"{url}/projects/{ids[0]}/data?task={ids[1]}")
    page.wait_for_function(READY, arg=[WIDTH, regions])
    page.wait_for_timeout(300)  # the canvas is painted on the next frames
    page.screenshot(path=shot)
    return page.evaluate("() => [...document.images].map(image => [image.naturalWidth, image.naturalHeight])")


@pytest.mark.parametrize(("task", "regions"), [("kind", 1), ("parts", 2), ("text", 2), ("defect", 3), ("things", 3)])
def test_browser__shows_each_kind_upright_and_its_submitted_answer_is_the_prediction(
    page: Page, client: LabelStudioClient, job: str, tmp_path: Path, task: str, regions: int
) -> None:
    file = tmp_path / "im ages" / "näme +&#1 %20.jpg"
    file.parent.mkdir()
    file.write_bytes(photograph())
    ids = stand_ready(client, f"{job} / {task}", task, file.as_uri())
    sizes = look(page, client.url, ids, regions=regions, shot=tmp_path / f"{task}.png")
    assert [WIDTH, HEIGHT] in sizes
    with page.expect_response(lambda answer: "/annotations" in answer.url and answer.request.method == "POST"):
        page.click("button:has-text('Submit')")
    (served,) = client.changed_tasks(ids[0], None)
    value = value_of(OPERATORS[task], served["annotations"][0]["result"])
    check_same(task, dict(value))


def check_same(task: str, value: dict[str, Any]) -> None:
    wanted = PREDICTIONS[task]
    if task == "kind":
        assert value == {"label": wanted["label"]}
    elif task == "parts":
        assert [(mask["label"], mask["rle"]) for mask in value["masks"]] == [
            (mask["label"], mask["rle"]) for mask in wanted["masks"]
        ]
    elif task == "text":
        assert value["full_text"] == wanted["full_text"]
        lines = sorted(wanted["lines"], key=lambda line: line["order"])
        for line, expected in zip(value["lines"], lines, strict=True):
            assert line["polygon"] == pytest.approx(expected["polygon"], abs=0.01)
    elif task == "things":
        wanted_boxes = [box for box in wanted["boxes"] if box["is_output"]]
        for box, expected in zip(value["boxes"], wanted_boxes, strict=True):
            assert box["label"] == expected["label"]
            assert box["box"] == pytest.approx(expected["box"], abs=0.01)
    else:
        assert value["is_anomalous"] is True
        assert value["regions"][0]["box"] == pytest.approx(wanted["regions"][0]["box"], abs=0.01)


@pytest.mark.parametrize("presign", [False, True])
def test_browser__shows_an_image_on_s3_and_the_task_keeps_its_uri(
    page: Page, label_studio: LabelStudioServer, s3: S3Server, s3_bucket: str, job: str, tmp_path: Path, presign: bool
) -> None:
    bucket, key = urlsplit(s3_bucket).netloc, "in/näme with space.jpg"
    with closing(boto3.client("s3")) as store:
        store.put_object(Bucket=bucket, Key=key, Body=photograph())
        if presign:
            allow_browsers(store, bucket, label_studio.url)
    access = S3Access(s3.endpoint_url, "us-east-1", s3.access_key, s3.secret_key, presign)
    client = LabelStudioClient(label_studio.url, label_studio.token, s3=access)
    ids = stand_ready(client, f"{job} / kind", "kind", f"{s3_bucket}/{key}")
    sizes = look(page, client.url, ids, regions=1, shot=tmp_path / "s3.png")
    assert [WIDTH, HEIGHT] in sizes
    (served,) = client.changed_tasks(ids[0], None)
    assert served["data"]["image"] == f"{s3_bucket}/{key}"


def test_browser__an_embedding_beside_its_neighbours(
    page: Page, client: LabelStudioClient, output: BlobStore, ledger: Ledger, job: str, tmp_path: Path
) -> None:
    """Every picture has a choice of its own, and an answer that leaves one out is not sent."""
    folder = tmp_path / "images"
    folder.mkdir()
    files = [folder / f"{name}.jpg" for name in ("asked", "first", "second", "third")]
    for number, file in enumerate(files):
        Image.new("RGB", (WIDTH, HEIGHT + number), ("navy", "blue", "olive", "teal")[number]).save(file)
    beside = neighbours(*(file.as_uri() for file in files[1:]))
    asked = item("look", files[0].as_uri(), job=job, route="calibrate", neighbours=beside)
    push(client, ledger, [asked], output=output, labels={}, render=render)
    project = ledger.project(client.url, job, "look")
    assert project is not None
    (before,) = client.changed_tasks(project.project_id, None)
    page.goto(f"{client.url}/projects/{project.project_id}/data?task={before['id']}")
    page.wait_for_function(SHOWN, arg=[HEIGHT, HEIGHT + 1, HEIGHT + 2, HEIGHT + 3])
    for place, word in enumerate(("same", "cannot say", "different")):
        page.locator(f'input[name="{word}"]').nth(place).click()
    page.screenshot(path=tmp_path / "look.png")
    page.click("button:has-text('Submit')")
    page.wait_for_selector("text=Say of every picture whether it shows the same.")
    page.click("button:has-text('OK')")
    page.locator('input[name="cannot say"]').nth(3).click()  # a grey field
    with page.expect_response(lambda answer: "/annotations" in answer.url and answer.request.method == "POST"):
        page.click("button:has-text('Submit')")
    (served,) = client.changed_tasks(project.project_id, None)
    value = value_of("embed", served["annotations"][0]["result"], neighbours=served["data"]["neighbours"])
    assert [(one["key"], one["same"]) for one in value["neighbours"]] == [
        ("first.jpg", True),
        ("second.jpg", None),
        ("third.jpg", False),
    ]


def allow_browsers(store: Any, bucket: str, origin: str) -> None:
    """The CORS rule that presigned URLs need: Label Studio draws images on a canvas."""
    rule = {"AllowedOrigins": [origin], "AllowedMethods": ["GET"], "AllowedHeaders": ["*"]}
    store.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
