"""`winnow search` and `winnow duplicates` as a person types them, over photographs that a real pipeline embedded."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from skimage import data

from tests.jobs.whole_nights import job, night
from winnow_jobs.cli import main
from winnow_jobs.resolved import ResolvedSpec
from winnow_workers.models.resolve import resolve_model

PHOTOGRAPHS: dict[str, Callable[[], np.ndarray]] = {
    "cat": data.chelsea, "coffee": data.coffee, "rocket": data.rocket, "woman": data.astronaut,
}  # fmt: skip


def fill(corpus: Path) -> None:
    """Four photographs, each whole, smaller and a little brighter; and a file that is no image."""
    corpus.mkdir(parents=True)
    for name, load in PHOTOGRAPHS.items():
        whole = Image.fromarray(load()).resize((240, 160))
        whole.save(corpus / f"{name}.png")
        whole.resize((120, 80)).save(corpus / f"{name}-small.png")
        Image.fromarray(np.clip(np.asarray(whole).astype(int) * 1.04, 0, 255).astype(np.uint8)).save(
            corpus / f"{name}-bright.png"
        )
    (corpus / "broken.png").write_bytes(b"not an image")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, a spec, and the output of one run."""
    folder = tmp_path_factory.mktemp("similar")
    fill(folder / "corpus")
    night(job(folder, "vector", same_content="each"))
    (folder / "job.yaml").write_text(
        "name: shelves\ncorpus: corpus\noutput: out\n"
        "tasks: [{name: vector, operator: embed, model: builtin/fingerprint}]\n"
    )
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def ask(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    record: dict[str, Any] = json.loads(out)
    assert record.get("exit_code", 0) == code, err
    return record


@pytest.mark.parametrize("how", ["--exact", "--approximate"])
def test_search__an_item(shelf: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    record = ask(capsys, "search", shelf / "job.yaml", "--item", "cat.png", "-k", "3", how)
    assert [one["key"] for one in record["results"][:2]] != []
    assert {one["key"] for one in record["results"][:2]} == {"cat-small.png", "cat-bright.png"}
    assert record["results"][0]["score"] > 0.97 > record["results"][2]["score"]
    assert (record["vectors"], record["method"], record["left_out"]) == (12, how[2:], 0)
    assert record["results"][0] | {"rank": 1, "run_id": "0001", "width": 240} == record["results"][0] | {"width": 240}
    by_id = ask(capsys, "search", shelf / "job.yaml", "--item", record["query"]["item_id"], "-k", "3", how)
    assert by_id["results"] == record["results"]


@pytest.mark.parametrize("how", ["--exact", "--approximate"])
def test_search__an_image_from_elsewhere(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    Image.fromarray(data.coffee()).save(tmp_path / "mine.jpg", quality=60)
    record = ask(capsys, "search", "--output", shelf / "out", "--image", tmp_path / "mine.jpg", "-k", "3", how)
    assert {one["key"] for one in record["results"]} == {"coffee.png", "coffee-small.png", "coffee-bright.png"}
    same = ask(capsys, "search", shelf / "job.yaml", "--image", shelf / "corpus/rocket.png", "-k", "1", how)
    assert same["results"][0]["key"] == "rocket.png"
    assert same["results"][0]["score"] == pytest.approx(1.0, abs=1e-3)  # stored in float16


def test_search__for_people(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "search", shelf / "job.yaml", "--item", "woman.png", "-k", "2")
    assert code == 0
    assert out.splitlines()[0] == "nearest to woman.png by vector (builtin/fingerprint), exact, among 12 vectors"
    assert "120 x 80" in out


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("--item", "cta.png"), "no current item is 'cta.png'", "did you mean cat.png"),
        (("--item", "broken.png"), "has no vector of the task 'vector' in this space (unreadable:", "--image"),
        (("--item", "cat.png", "--task", "vectr"), "no run has a task 'vectr'", "did you mean 'vector'?"),
        (("--image", "corpus/nothing.png"), "there is no image at", "give --image"),
        (("--image", "corpus/broken.png"), "cannot be searched by: no image format", "one image file"),
        (("--image", "corpus"), "there is no image at", "give --image"),
        (("--text", "a cat"), "builtin/fingerprint embeds images only", "a whole CLIP or SigLIP pair"),
        (("--text", " "), "--text is empty", "say what should be seen"),
        (("--image", "a", "--item", "b"), "winnow search takes --image, --item or --text, one of them", None),
        ((), "winnow search takes --image, --item or --text, one of them", None),
    ],
)  # fmt: skip
def test_search__what_is_wrong(
    shelf: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
    hint: str | None,
) -> None:
    monkeypatch.chdir(shelf)
    record = ask(capsys, "search", "job.yaml", *arguments)
    assert record["exit_code"] == 2
    assert message in record["error"]
    assert hint is None or hint in record["hint"]


def test_search__no_embeddings_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = ask(capsys, "search", "--output", tmp_path / "out", "--item", "x")
    assert (record["exit_code"], "holds no embeddings yet" in record["error"]) == (2, True)


def embedding(resolved: ResolvedSpec, model: str, seed: int | None = None) -> ResolvedSpec:
    """The same job with another model of the same task."""
    (task,) = resolved.tasks
    pinned = resolve_model(model, None if seed is None else {"random": seed})
    return resolved.model_copy(update={"tasks": (task.model_copy(update={"model": pinned}),)})


@pytest.mark.parametrize("before", [("builtin/fingerprint", None), ("builtin/small_embedder", 4)])
def test_search__two_models_are_never_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: tuple[str, int | None]
) -> None:
    fill(tmp_path / "corpus")
    first = job(tmp_path, "vector", same_content="each")
    night(embedding(first, *before))  # of another width, or of the same
    night(embedding(first, "builtin/small_embedder", 3), limit=5)  # the second model has seen five items only
    record = ask(capsys, "search", "--output", tmp_path / "out", "--item", "cat.png", "-k", "20")
    assert record["model_digest"] == "random:3"
    assert {one["key"] for one in record["results"]} == {"cat-small.png", "cat-bright.png", "coffee-bright.png"}
    assert {one["run_id"] for one in record["results"]} == {"0002"}
    assert (record["vectors"], record["left_out"]) == (4, 8)
    _, _, err = run(capsys, "search", "--output", tmp_path / "out", "--image", tmp_path / "corpus/cat.png")
    assert err.startswith("warning: 8 items left out: the task 'vector' as it is in run 0002 has not embedded them")
    assert "cannot be compared. winnow run SPEC (after" in err
    record = ask(capsys, "search", "--output", tmp_path / "out", "--item", "woman.png")
    assert "woman.png has no vector of the task 'vector' in this space (done)" in record["error"]


@pytest.mark.parametrize("is_seen_by_all", [True, False])
def test_search__after_a_rollback_says_what_embeds_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_seen_by_all: bool
) -> None:
    fill(tmp_path / "corpus")
    (tmp_path / "corpus/cat.png").rename(tmp_path / "cat.png")
    first = job(tmp_path, "vector", same_content="each")
    first, second = (embedding(first, "builtin/small_embedder", seed) for seed in (3, 4))
    night(first)
    night(second, **({} if is_seen_by_all else {"limit": 5}))
    if is_seen_by_all:  # one item is due after the rollback: of the others the second model's vectors are newer
        (tmp_path / "cat.png").rename(tmp_path / "corpus/cat.png")
        night(first)
    search = ("search", "--output", tmp_path / "out", "--image", tmp_path / "cat-like.png")
    Image.fromarray(data.cat()).save(tmp_path / "cat-like.png")
    assert ask(capsys, *search)["left_out"] > 0
    _, _, err = run(capsys, *search)
    assert "(after a rollback: winnow run SPEC --tasks vector --since 0001) embeds them" in err
    assert night(first) == {}
    night(first, tasks=["vector"], since="0001")
    assert ask(capsys, *search)["left_out"] == 0


def test_duplicates__groups_in_every_format(shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = {
        suffix: ask(capsys, "duplicates", shelf / "job.yaml", "--threshold", "0.97", "--to", tmp_path / f"d.{suffix}")
        for suffix in ("parquet", "csv", "json")
    }
    record = records["json"]
    assert (record["groups"], record["members"], record["superfluous"], record["vectors"]) == (4, 12, 8, 12)
    groups = {frozenset(member["key"] for member in one["members"]) for one in record["largest"]}
    assert groups == {frozenset({f"{n}.png", f"{n}-small.png", f"{n}-bright.png"}) for n in PHOTOGRAPHS}
    # the largest image stands for its group; of two as large, more bytes
    assert {one["representative"].removesuffix(".png").removesuffix("-bright") for one in record["largest"]} == {
        *PHOTOGRAPHS
    }
    assert json.loads((tmp_path / "d.json").read_text()) == record["largest"]
    assert pq.read_table(tmp_path / "d.parquet").num_rows == 12
    with (tmp_path / "d.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["key"] for line in lines] == pq.read_table(tmp_path / "d.parquet")["key"].to_pylist()


def test_duplicates__for_people(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "duplicates", shelf / "job.yaml", "--threshold", "0.97", "--show", "1")
    assert code == 0
    assert "4 groups of 12 images; 8 could go if one of each group is kept" in out
    assert "... and 3 more: --show, or --to FILE for all" in out


def test_duplicates__auto_says_where_the_threshold_is_from(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = ask(capsys, "duplicates", shelf / "job.yaml", "--threshold", "auto")
    assert record["threshold_from"] in ("data", "default")
    assert 0.8 <= record["threshold"] <= 0.9999


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threshold", "much"), "--threshold 'much' is no cosine"),
        (("--threshold", "nan"), "--threshold 'nan' is no cosine"),
        (("--threshold", "1.5"), "--threshold '1.5' is no cosine"),
        (("--to", "groups.xlsx"), "--to groups.xlsx: of which kind?"),
        (("--to", "nowhere/groups.csv"), "its folder is not there"),
    ],
)
def test_duplicates__what_is_wrong(
    shelf: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    record = ask(capsys, "duplicates", shelf / "job.yaml", *arguments)
    assert (record["exit_code"], message in record["error"]) == (2, True), record
