from pathlib import Path

import pytest

from winnow_jobs.resolved import resolve_spec
from winnow_jobs.spec_source import load_spec
from winnow_storage.errors import SpecError

GOOD = """\
name: shelf-audit
corpus:
  uri: photos
output: out
tasks:
  - {name: text, operator: ocr}
  - {name: vector, operator: embed, model: builtin/fingerprint}
"""
OWN = """\
name: own
corpus: {{uri: photos}}
output: out
tasks: [{{name: text, operator: "tests.workers.contract.bad_operators:{}"}}]
review: {{gold: {{text: {{truth: a.csv}}}}}}
"""
HEAD = "  - {{name: kind, operator: classify, model: h.safetensors, vectors: {}}}\n"


def load(tmp_path: Path, text: str, **environ: str):
    file = tmp_path / "job.yaml"
    file.write_text(text, encoding="utf-8")
    return load_spec(file, environ)


def message(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(SpecError) as raised:
        load(tmp_path, text, **environ)
    assert raised.value.exit_code == 2
    assert raised.value.hint
    return str(raised.value).replace(str(tmp_path), "")


def test_load_spec__reads_every_section_with_defaults(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD).spec
    assert [task.name for task in spec.tasks] == ["text", "vector"]
    assert spec.output.uri == "out"
    assert not spec.output.single_writer
    assert spec.run.shard_items == "auto"
    assert "*.jpg" in spec.corpus.include
    assert "*.tiff" in spec.corpus.include


def test_load_spec__the_design_page_example_is_valid(tmp_path: Path) -> None:
    text = """\
name: shelf-audit
corpus:
  uri: s3://acme-photos/2026/
  include: ["*.jpg", "*.jpeg", "*.png", "*.webp", "*.tif"]
output: s3://acme-results/shelf-audit
tasks:
  - {name: text,   operator: ocr}
  - {name: kind,   operator: classify, model: models/kind@prod}
  - {name: defect, operator: anomaly,  model: models/defect@prod}
  - {name: parts,  operator: segment,  model: s3://acme-models/parts.safetensors}
  - {name: vector, operator: embed,    model: timm/resnet50}
review:
  label_studio: {url: http://127.0.0.1:8080, token: "${LABEL_STUDIO_TOKEN}"}
  policies:
    kind:   {max_error: 0.02, confidence: 0.90}
    text:   {min_p_ok: 0.85, uncalibrated: review}
  budget: 500
  audit: 0.01
run:
  shard_items: auto
  actors: auto
  device: auto
"""
    spec = load(tmp_path, text).spec
    assert spec.review.policies["kind"].max_error == 0.02
    assert spec.review.budget == 500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "/job.yaml:1:1: the file is empty"),
        ("- a\n", "/job.yaml:1:1: a job spec is a mapping of keys, not list"),
        ("name: [\n", "/job.yaml:2:1: not valid YAML"),
        (GOOD + "name: again\n", "/job.yaml:8:1: the key 'name' is given twice"),
        (GOOD.replace("output: out", "outptu: out"), "/job.yaml:4:1: unknown key 'outptu'; did you mean 'output'?"),
        (GOOD.replace("output: out\n", ""), "/job.yaml:1:1: the key 'output' is missing"),
        (GOOD.replace("  uri: photos", "  url: photos"), "/job.yaml:3:3: unknown key 'url'; did you mean 'uri'?"),
        (GOOD.replace("operator: ocr", "operator: orc"), "/job.yaml:6:28: "),
        (GOOD.replace("operator: ocr", "operator: ocr, max_size_px: 3"), "/job.yaml:6:33: unknown key 'max_size_px'"),
        (GOOD.replace("name: text", "name: te xt"), "/job.yaml:6:12: tasks.0.name: "),
        (GOOD.replace("name: vector", "name: TEXT"), "/job.yaml:6:3: tasks: the task name 'TEXT' is already taken"),
        (GOOD.replace("name: vector", "name: uri"), "already taken by a column of every result"),
        (GOOD + "run: {actors: 0}\n", "/job.yaml:8:15: run.actors: "),
        (GOOD + "run: {actors: {min: 3, max: 2}}\n", "min (3) is more than max (2)"),
        (GOOD + "run: {device: gpu}\n", "/job.yaml:8:15: run.device: input should be 'auto', 'cpu' or 'cuda'"),
        (GOOD + "review: {policies: {txt: {min_p_ok: 0.5}}}\n", "review.policies names 'txt', which is no task"),
        (GOOD + "review: {policies: {text: {min_p_ok: 1.5}}}\n", "/job.yaml:8:38: review.policies.text.min_p_ok: "),
        (GOOD + "review: {policies: {text: {never_review_items: legal/*}}}\n", ":8:48: review.policies.text.never_"),
        (GOOD + "review: {policies: {text: {never_review_items: {fiel: x}}}}\n", "'fiel'; did you mean 'file'?"),
        (GOOD + "review: {instructions: {txt: Read it.}}\n", "review.instructions names 'txt', which is no task"),
        (GOOD + "review: {label_studio: {url: http://ls, projects: {txt: a}}}\n", "label_studio.projects names 'txt'"),
        (GOOD + "review: {select: {by: disagreement, committee: [text, vector]}}\n", "committee names 'text'"),
        (GOOD + "review: {select: {vectors: text}}\n", ":8:28: review.select.vectors names 'text'"),
        (GOOD + "review: {overlaps: {text: 2}}\n", "text: keys are wanted here (allowed: overlap, max_overlap, sure)"),
        (GOOD + "review: {budgt: 3}\n", "/job.yaml:8:10: unknown key 'budgt'; did you mean 'budget'?"),
        (GOOD.replace("embed, model: builtin/fingerprint", "classify"), "names no model"),
        (GOOD + "ledger: postgresql://u:secret@h/db\n", "/job.yaml:8:9: ledger: a password is taken"),
        (GOOD + "review: {policies: {vector: {min_p_ok: 0.5}}}\n", "/job.yaml:8:21: predictions of embed have no"),
        (GOOD + "review: {gold: {vector: {truth: a.csv}}}\n", ":8:17: review.gold names 'vector': which neighbours it"),
        (OWN.format("OneLength"), ":5:17: review.gold names 'text': which neighbours it"),
        (OWN.format("Good"), ":5:17: review.gold names 'text', and nobody can answer the operator 'tests."),
        (GOOD.replace("photos", "${PHOTOS}"), "/job.yaml:3:8: the environment variable PHOTOS is not set"),
        (GOOD + HEAD.format("vektor"), "/job.yaml:8:69: the task 'kind' classifies the vectors of 'vektor', which"),
        (GOOD + HEAD.format("text"), "which is of the operator ocr\n  next: name a task of embed: vector"),
        (GOOD + HEAD.format("kind"), "which is of the operator classify\n  next: name a task of embed: vector"),
        (GOOD + HEAD.format("vector, labels: [a]"), "/job.yaml:8:5: tasks.2: vectors: says that a head"),
        (GOOD + HEAD.format("{task: vector, width: 3}"), "unknown key 'width'"),
    ],
)  # fmt: skip
def test_load_spec__says_where_and_what(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in message(tmp_path, text)


def test_load_spec__vectors_that_select_may_be_of_an_operator_of_somebodys_own(tmp_path: Path) -> None:
    text = OWN.format("OneLength").replace("gold: {text: {truth: a.csv}}", "select: {vectors: text}")
    assert load(tmp_path, text).spec.review.select.vectors == "text"


def test_resolve_spec__an_output_inside_the_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="lies in the corpus"):
        resolve_spec(load(tmp_path, GOOD.replace("output: out", "output: photos/out")))


def test_resolve_spec__reads_the_files_of_listed_items_into_the_plan(tmp_path: Path) -> None:
    policy = "review: {policies: {text: {always_review_items: {file: legal.txt, globs: ['x/*']}}}}\n"
    (tmp_path / "legal.txt").write_bytes("\ufeffb \u00fc.jpg\r\na.jpg\n\nb \u00fc.jpg\r\n".encode())
    listed = resolve_spec(load(tmp_path, GOOD + policy)).review.policies["text"].always_review_items
    assert (listed.items, listed.globs, listed.file) == (("a.jpg", "b \u00fc.jpg"), ("x/*",), None)
    again = resolve_spec(load(tmp_path, GOOD + policy.replace("file: legal.txt", "items: [b \u00fc.jpg, a.jpg]")))
    (tmp_path / "legal.txt").write_text("\n".join(str(number) for number in range(10_001)))
    with pytest.raises(SpecError, match="lists 10,001 items, and a plan holds 10,000 at most"):
        resolve_spec(load(tmp_path, GOOD + policy))
    assert set(again.review.policies["text"].always_review_items.items) == set(listed.items)
    (tmp_path / "legal.txt").write_bytes(b"\xff")
    with pytest.raises(SpecError, match=r"legal\.txt is not UTF-8"):
        resolve_spec(load(tmp_path, GOOD + policy))
    (tmp_path / "legal.txt").unlink()
    with pytest.raises(SpecError, match=r"review\.policies\.text\.always_review_items: there is no file .*legal\.txt"):
        resolve_spec(load(tmp_path, GOOD + policy))


def test_load_spec__reports_several_mistakes_at_once(tmp_path: Path) -> None:
    text = message(tmp_path, GOOD.replace("output: out", "outptu: out") + "rnu: {}\n")
    assert "'outptu'" in text
    assert "'rnu'; did you mean 'run'?" in text
    assert "the key 'output' is missing" in text
    assert text.endswith(
        "\n  next: correct those places, then winnow validate /job.yaml; docs/guide.md says what the keys mean"
    )


def test_load_spec__says_where_the_other_one_of_two_equal_keys_stands(tmp_path: Path) -> None:
    said = message(tmp_path, GOOD + "name: again\n")
    assert said.endswith("\n  next: remove one of the two; the first is at /job.yaml:1:1")


def test_load_spec__too_long(tmp_path: Path) -> None:
    assert "a job spec has at most 1000000" in message(tmp_path, GOOD + "#" * 1_000_000)


def test_load_spec__fills_in_the_environment_but_keeps_secrets_as_names(tmp_path: Path) -> None:
    text = GOOD.replace("photos", "${ROOT}/photos") + (
        "ledger: postgresql://winnow:${PASSWORD}@db/winnow\n"
        "review: {label_studio: {url: http://127.0.0.1:8080, token: '${TOKEN}'}}\n"
    )
    spec = load(tmp_path, text, ROOT="/data", PASSWORD="hunter2", TOKEN="abcdef").spec
    assert spec.corpus.uri == "/data/photos"
    assert "hunter2" not in spec.model_dump_json()
    assert "abcdef" not in spec.model_dump_json()


def test_load_spec__refuses_a_literal_secret_without_repeating_it(tmp_path: Path) -> None:
    text = GOOD + "review: {label_studio: {url: http://127.0.0.1:8080, token: s3cr3t-value}}\n"
    said = message(tmp_path, text)
    assert "write ${NAME}" in said
    assert "s3cr3t-value" not in said


def test_load_spec__missing_file_and_wrong_bytes(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no spec file"):
        load_spec(tmp_path / "absent.yaml", {})
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path / "latin.yaml", {})


@pytest.mark.parametrize("inventory", ["s3://logs/inventories/photos/nightly/", "s3://logs/x/manifest.json"])
def test_resolve_spec__carries_the_inventory(tmp_path: Path, inventory: str) -> None:
    text = GOOD.replace("  uri: photos", f"  uri: s3://photos/2026\n  inventory: {inventory}")
    corpus = resolve_spec(load(tmp_path, text)).corpus
    assert (str(corpus.source.root), str(corpus.source.inventory)) == ("s3://photos/2026", inventory.rstrip("/"))
    assert resolve_spec(load(tmp_path, GOOD)).corpus.source.inventory is None
