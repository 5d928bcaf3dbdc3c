"""A run over archives, Parquet files and documents beside plain files: the same predictions, and nothing lost."""

from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.winnow import photographs, winnow, write_spec
from tests.packed_files import parquet_of, pdf_of, tar_of
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_results
from winnow_storage.uri import parse

INCLUDE = 'corpus: {uri: photos, include: ["*.jpg", "*.png", "*.tar", "*.parquet", "*.pdf"]}'


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six photographs, each as a file, in an archive and in a Parquet file; a document, and an archive that is cut."""
    photos = photographs(tmp_path / "photos", 6)
    data = [path.read_bytes() for path in photos]
    sidecars = [(f"{path.stem}.json", b"{}") for path in photos]
    images = [(path.name, one) for path, one in zip(photos, data, strict=True)]
    folder = tmp_path / "photos"
    (folder / "shard-000.tar").write_bytes(tar_of(sorted([*images, *sidecars])))
    (folder / "rows.parquet").write_bytes(parquet_of(data))
    with Image.open(photos[0]) as page:
        (folder / "scan.pdf").write_bytes(pdf_of([page, page.rotate(180)]))
    (folder / "cut.tar").write_bytes(tar_of(images[:2])[: 512 + len(data[0])])
    return folder


def test_run__packed_beside_plain(corpus: Path, tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    spec.write_text(spec.read_text(encoding="utf-8").replace("corpus: photos", INCLUDE), encoding="utf-8")
    ended = winnow("run", spec, "--json", cwd=tmp_path)
    assert ended.code == 3, ended.err
    assert ended.record["outcomes"] == {
        "done": 21, "unreadable": 1, "missing": 0, "rejected": 0, "failed": 0, "unavailable": 0
    }  # fmt: skip
    rows = {row["key"]: row for row in read_results(open_store(parse(str(tmp_path / "out"))), "0001").to_pylist()}
    assert rows["cut.tar"]["reason"].startswith("it is damaged behind 1 members")
    for number in range(6):
        name = f"{number:04d}.{'jpg' if number % 2 else 'png'}"
        plain = rows[name]
        for key in (f"shard-000.tar/{name}", f"rows.parquet/image/{number:010d}"):
            same = ("content_sha256", "bytes", "format", "width", "height", "vector")
            assert {column: rows[key][column] for column in same} == {column: plain[column] for column in same}
            assert rows[key]["kind"]["label"] == plain["kind"]["label"]
            assert rows[key]["kind"]["score"] == pytest.approx(plain["kind"]["score"], abs=1e-5)
    pages = [rows[f"scan.pdf/00000{page}"] for page in (1, 2)]
    assert [(page["format"], page["width"], page["height"]) for page in pages] == [("pdf", 96, 72)] * 2
    assert pages[0]["content_sha256"] != pages[1]["content_sha256"]
    again = winnow("run", spec, "--json", cwd=tmp_path)
    assert (again.code, again.record["state"]) == (0, "nothing_due")
    verified = winnow("verify", "0001", spec, cwd=tmp_path)
    assert verified.code == 0, verified.err
