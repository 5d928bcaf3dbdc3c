"""The images of the demo's second job: apart from each other, true, and the same each time."""

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from winnow_jobs.demo.digit_scans import SIDE_PX, split_scans


def test_split_scans__no_image_is_in_two_parts(tmp_path: Path) -> None:
    first, images, hidden = split_scans(first_of_each=2, images=40, hidden=30)
    assert Counter(first.labels.values()) == dict.fromkeys("0123456789", 2)
    assert [len(one.files) for one in (first, images, hidden)] == [20, 40, 30]
    assert len({key for one in (first, images, hidden) for key in one.files}) == 90
    again = split_scans(first_of_each=2, images=40, hidden=30)
    assert again == (first, images, hidden)
    rows = list(csv.DictReader(io.StringIO(hidden.truth_csv())))
    assert {row["key"]: row["label"] for row in rows} == hidden.labels

    hidden.write(tmp_path / "hidden")
    with Image.open(next((tmp_path / "hidden").iterdir())) as image:
        assert (image.size, image.mode, image.getextrema()[1]) == ((SIDE_PX, SIDE_PX), "L", 255)


def test_split_scans__as_many_as_there_are() -> None:
    with pytest.raises(ValueError, match="1797 images are wanted, there are 1777"):
        split_scans(first_of_each=2, images=1300, hidden=497)
