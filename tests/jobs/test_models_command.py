"""`winnow models`, through the frontier that turns errors into messages and exit codes."""

import getpass
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from winnow_jobs.cli import main
from winnow_storage import ledger_engine
from winnow_storage.ledger import open_ledger
from winnow_workers.models.build import build_network
from winnow_workers.models.model_file import ModelCard, Preprocessing, encode_model, read_card


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any, str]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(captured.out), captured.err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    card = ModelCard(
        architecture="builtin/digit_cnn",
        labels=("a", "b"),
        preprocessing=Preprocessing(height_px=32, width_px=32, channels=1, mean=(0.5,), std=(0.5,)),
    )
    path = tmp_path / "model.safetensors"
    path.write_bytes(encode_model(weights(2), card))
    return path


def weights(labels: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return build_network("builtin/digit_cnn", {}, n_labels=labels, seed=seed).state_dict()


def test_add_list_show_promote(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    registry = ("--registry", tmp_path / "registry")
    code, added, _ = run(capsys, "models", "add", "kind", model, "--stage", "prod", *registry)
    assert (code, added["version"], added["stages"]) == (0, "1", ["prod"])
    assert added["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    model.write_bytes(encode_model(weights(2, seed=1), ModelCard(architecture="builtin/digit_cnn", labels=("a", "b"))))
    _, second, _ = run(capsys, "models", "add", "kind", model, *registry)
    assert (second["version"], second["stages"]) == ("2", [])
    _, shown, _ = run(capsys, "models", "show", "models/kind@prod", *registry)
    assert (shown["version"], shown["card"]["labels"]) == ("1", ["a", "b"])
    _, promoted, _ = run(capsys, "models", "promote", "kind", "2", "prod", *registry)
    assert promoted["version"] == "2"
    _, listed, _ = run(capsys, "models", "list", *registry)
    assert [(one["name"], one["version"], one["stages"]) for one in listed["models"]] == [
        ("kind", "1", []),
        ("kind", "2", ["prod"]),
    ]


def test_add__a_state_dict_needs_its_digest_and_a_card(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pickled = tmp_path / "weights.pth"
    torch.save(weights(1), pickled)
    digest = hashlib.sha256(pickled.read_bytes()).hexdigest()
    command = ("models", "add", "kind", pickled, "--registry", tmp_path / "registry")
    code, refused, _ = run(capsys, *command)
    assert (code, refused["exit_code"]) == (2, 2)
    assert "only read with its digest given" in refused["error"]
    code, refused, _ = run(capsys, *command, "--sha256", "0" * 64)
    assert (code, f"has the sha256 {digest}" in refused["error"]) == (2, True)
    code, refused, _ = run(capsys, *command, "--sha256", digest)
    assert (code, "says nothing of its architecture" in refused["error"]) == (2, True)
    card = tmp_path / "card.json"
    card.write_text('{"architecture": "builtin/digit_cnn", "labels": ["x"]}')
    code, added, _ = run(capsys, *command, "--sha256", digest, "--card", card)
    assert code == 0
    stored = Path(added["uri"].removeprefix("file://")).read_bytes()
    described = read_card(stored, where="stored")
    assert described is not None
    assert described.architecture == "builtin/digit_cnn"
    card.write_text('{"architecture": 3}')
    code, refused, _ = run(capsys, *command, "--sha256", digest, "--card", card)
    assert (code, "is not valid" in refused["error"]) == (2, True)


def test_rollback__goes_back_step_by_step_and_keeps_the_history(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    registry = ("--registry", tmp_path / "registry")
    for seed in range(3):
        model.write_bytes(
            encode_model(weights(2, seed), ModelCard(architecture="builtin/digit_cnn", labels=("a", "b")))
        )
        run(capsys, "models", "add", "kind", model, "--stage", "prod", *registry)
    code, back, _ = run(capsys, "models", "rollback", "kind", "prod", "--by", "ann", "--why", "misses cats", *registry)
    assert (code, back["version"], back["left"]) == (0, "2", "3")
    _, back, _ = run(capsys, "models", "rollback", "kind", "prod", *registry)
    assert (back["version"], back["left"]) == ("1", "2")
    code, refused, _ = run(capsys, "models", "rollback", "kind", "prod", *registry)
    assert (code, "was no other before" in refused["error"]) == (2, True)
    code, refused, _ = run(capsys, "models", "rollback", "kind", "prd", *registry)
    assert (code, refused["hint"]) == (2, "did you mean kind@prod?")
    _, shown, _ = run(capsys, "models", "show", "kind@prod", *registry)
    said = [(one["action"], one["version"], one["why"]) for one in shown["history"]]
    assert said[-2:] == [("rollback", "2", "misses cats"), ("rollback", "1", None)]
    assert shown["history"][-2]["by"] == "ann"


def test_verify__says_what_is_wrong_and_ends_with_one(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    place = tmp_path / "registry"
    registry = ("--registry", place)
    run(capsys, "models", "add", "kind", model, "--stage", "prod", *registry)
    code, checked, _ = run(capsys, "models", "verify", *registry)
    index = {"indexed": {"differed": []}, "index_error": None}
    assert (code, checked) == (0, {"versions": 1, "stages": 1, "sound": True, "findings": []} | index)
    stored = place / "models/kind/1/model.safetensors"
    data = stored.read_bytes()
    stored.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    card = place / "models/kind/1/card.json"
    code, checked, _ = run(capsys, "models", "verify", "kind", *registry)
    assert (code, checked["findings"][0]["place"]) == (1, "kind@1")
    assert "of the sha256" in checked["findings"][0]["what"]
    stored.write_bytes(data)
    document = json.loads(card.read_text())
    card.write_text(json.dumps(document | {"card": document["card"] | {"labels": ["a", "c"]}}))
    _, checked, _ = run(capsys, "models", "verify", *registry)
    assert "other things than the file's own card: labels" in checked["findings"][0]["what"]
    card.unlink()
    _, checked, _ = run(capsys, "models", "verify", *registry)
    assert "its card or its file is not there" in checked["findings"][0]["what"]
    stored.unlink()
    _, checked, _ = run(capsys, "models", "verify", *registry)
    assert [one["place"] for one in checked["findings"]] == ["kind@prod"]
    code, refused, _ = run(capsys, "models", "verify", "knid", *registry)
    assert (code, refused["hint"]) == (2, "did you mean kind?")


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("architecture: builtin/digit_cnn\nlabels: [a, b, c]\n", "wrong shapes: head.1.weight"),
        ("architecture: smp/unet/resnet19\n", "has no encoder 'resnet19'"),
        ("architecture: smp/unett/resnet18\n", "smp has no model named 'unett'"),
        ("architecture: builtin/digit_cnn\nlabls: [a, b]\n", "labls: Extra inputs are not permitted"),
        ("architecture: builtin/digit_cnn\nkind: clasify\n", "kind: Input should be 'classify'"),
        ("architecture: builtin/digit_cnn\nlabels: [a, b]\nparent: kind@9\n", "has no model 'kind'"),
        ("a: [\n", "is neither YAML nor JSON"),
    ],
)
def test_add__a_card_that_does_not_fit(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, card: str, said: str
) -> None:
    (tmp_path / "card.yaml").write_text(card)
    command = ("models", "add", "kind", model, "--card", tmp_path / "card.yaml", "--registry", tmp_path / "registry")
    code, refused, _ = run(capsys, *command)
    assert code == 2
    assert said in refused["error"]


def test_add__a_card_beside_the_file_is_kept_in_it(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    registry = ("--registry", tmp_path / "registry")
    run(capsys, "models", "add", "kind", model, *registry)
    (tmp_path / "card.yaml").write_text(
        "architecture: builtin/digit_cnn\nkind: classify\nlabels: [x, y]\nlicence: CC0-1.0\nparent: kind@1\n"
        "preprocessing: {height_px: 32, width_px: 32, channels: 1, mean: [0.5], std: [0.5]}\n"
        "metrics: {accuracy: 0.91, measured_on: held-out}\n"
    )
    _, added, _ = run(capsys, "models", "add", "kind", model, "--card", tmp_path / "card.yaml", *registry)
    assert (added["version"], added["card"]["metrics"]) == ("2", {"accuracy": 0.91, "measured_on": "held-out"})
    own = read_card(Path(added["uri"].removeprefix("file://")).read_bytes(), where="stored")
    assert own is not None
    assert (own.kind, own.parent, own.labels) == ("classify", "kind@1", ("x", "y"))


def test_add__a_missing_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, refused, _ = run(capsys, "models", "add", "kind", tmp_path / "absent", "--registry", tmp_path)
    assert code == 2
    assert "cannot be read" in refused["error"]
    code, refused, _ = run(capsys, "models", "show", "absent", "--registry", tmp_path)
    assert code == 2


def test_main__a_defect_is_said_to_be_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(uri: str | None) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("winnow_jobs.commands.models.open_registry", broken)
    code, said, err = run(capsys, "models", "list", "--debug")
    assert (code, said["exit_code"]) == (1, 1)
    assert said["error"] == "ZeroDivisionError: division by zero"
    assert "report what it prints" in said["hint"]
    assert "Traceback" in err


def test_ledger__follows_and_is_rebuilt_by_verify(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "ledger.db"
    monkeypatch.setenv("WINNOW_LEDGER", f"sqlite:///{database}")
    registry = ("--registry", tmp_path / "registry")
    run(capsys, "models", "add", "kind", model, "--stage", "prod", *registry)
    with open_ledger(f"sqlite:///{database}") as ledger:
        (row,) = ledger.models((tmp_path / "registry").as_uri())
        (move,) = ledger.model_stages((tmp_path / "registry").as_uri())
    assert (row.name, row.version, row.architecture, row.labels) == ("kind", "1", "builtin/digit_cnn", 2)
    assert (move.stage, move.version, move.moved_by) == ("prod", "1", getpass.getuser())
    for left in tmp_path.glob("ledger.db*"):
        left.unlink()
    code, checked, _ = run(capsys, "models", "verify", *registry)
    assert (code, checked["sound"], checked["indexed"]) == (0, True, {"differed": ["kind@1", "kind@stages/1"]})
    code, checked, _ = run(capsys, "models", "verify", *registry)
    assert (code, checked["indexed"], checked["index_error"]) == (0, {"differed": []}, None)
    with open_ledger(f"sqlite:///{database}") as ledger:
        assert ledger.models((tmp_path / "registry").as_uri()) == [row]


def test_ledger__locked_is_a_warning_since_the_registry_counts(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setattr(ledger_engine, "LOCK_WAIT_S", 0)
    registry = ("--registry", tmp_path / "registry")
    open_ledger(f"sqlite:///{tmp_path}/ledger.db").close()
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        code, added, said = run(capsys, "models", "add", "kind", model, "--stage", "prod", *registry)
        assert (code, added["stages"]) == (0, ["prod"])
        assert said.count("warning: the registry has it, but the ledger was not brought up to date") == 1
        code, checked, _ = run(capsys, "models", "verify", *registry)
        assert (code, checked["sound"]) == (4, True)
        assert "locked" in checked["index_error"]["error"]
        code, checked, _ = run(capsys, "models", "verify", "--no-index", *registry)
        assert (code, checked["index_error"]) == (0, None)
    code, checked, _ = run(capsys, "models", "verify", *registry)
    assert (code, checked["indexed"]) == (0, {"differed": ["kind@1", "kind@stages/1"]})
