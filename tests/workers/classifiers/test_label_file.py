"""Do label files say what a spec would, and are bad ones refused by name?"""

from pathlib import Path

import pytest

from winnow_storage.errors import SpecError
from winnow_workers.classifiers.label_file import read_label_file

TREE = {"animal": None, "cat": "animal", "dog": "animal"}


@pytest.mark.parametrize(
    ("name", "text", "labels", "tree"),
    [
        ("a.txt", "cat\n\n dog \n", ("cat", "dog"), {}),
        ("a.csv", "label\ncat\ndog\n", ("cat", "dog"), {}),
        ("a.csv", "label,parent\nanimal,\ncat,animal\ndog,animal\n", (), TREE),
        ("a.json", '["cat", "dog"]', ("cat", "dog"), {}),
        ("a.json", '{"animal": ["cat", "dog"]}', (), TREE),
    ],
)
def test_read(name: str, text: str, labels: tuple[str, ...], tree: dict[str, str | None], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    found = read_label_file(name, base=tmp_path)
    assert (found.labels, dict(found.tree)) == (labels, tree)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name\ncat\n", r"a\.csv: the columns are name; one must be label"),
        ("a.csv", "label,parent\ncat,animl\nanimal,\n", "the parent 'animl' of 'cat' is unknown"),
        ("a.csv", "label,parent\na,b\nb,a\n", "goes in a circle"),
        ("a.csv", "label,parent\n,b\n", "line 2: the label is empty"),
        ("a.json", "{", r"a\.json: "),
        ("a.json", "[1]", "something else than labels"),
        ("a.txt", "\n", "holds no label"),
        ("a.yaml", "cat", "no label file that is known"),
    ],
)
def test_read__refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=message):
        read_label_file(name, base=tmp_path)


def test_read__not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"there is no label file at file://.*/none\.csv"):
        read_label_file("none.csv", base=tmp_path)
