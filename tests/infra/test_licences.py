"""Is all that Winnow needs at run time free of AGPL, GPL and non-commercial terms? As each package says of itself.

What is installed beside it for development, and Label Studio, which has an environment of its own, is not meant.
"""

import re
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# GPL and AGPL, but not LGPL
REFUSED = re.compile(
    r"(?<!L)(?<!Lesser )\bA?GPL|Affero|(?<!Lesser )General Public License|non.?commercial|\bCC.BY.NC|SSPL|BUSL|"
    r"Business Source|Commons Clause|PolyForm|Elastic License|Proprietary",
    re.IGNORECASE,
)
# MPL asks only for changes of its own files
PERMISSIVE = re.compile(
    r"\bMIT\b|\bBSD\b|\bApache\b|\bISC\b|\bZlib\b|\bBSL-1\.0|\bPSF|Python Software Foundation|CNRI-Python|\bTCL\b|"
    r"\bMPL\b|Mozilla Public License 2|FreeBSD",
    re.IGNORECASE,
)
NVIDIA = "may be passed on with an application; torch's wheel for CUDA asks for it, torch's for CPUs does not"
REASONS = {
    "psycopg": "LGPL: imported as it is installed, only where the ledger is on Postgres; anybody can put another in",
    "psycopg-binary": "LGPL: as psycopg",
    "cuda-toolkit": "no file of its own: it only names NVIDIA's packages",
}


def needed() -> dict[str, Distribution]:
    """What is installed of the closure of our dependencies, the extra for Tesseract included."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(one) for one in [*project["dependencies"], *project["optional-dependencies"]["tesseract"]]]
    seen: set[tuple[str, str]] = set()
    found: dict[str, Distribution] = {}
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        found[name] = found.get(name) or distribution(name)
        for extra in {"", *asked.extras} - {other for one, other in seen if one == name}:
            seen.add((name, extra))
            further = map(Requirement, found[name].requires or [])
            waiting += [one for one in further if one.marker is None or one.marker.evaluate({"extra": extra})]
    return found


def statements(package: Distribution) -> list[str]:
    """What a package's metadata say of its licence; the beginning of its file where they say nothing."""
    said = package.metadata
    classifiers = [one.split(" :: ")[-1] for one in said.get_all("Classifier") or [] if one.startswith("License :: ")]
    if said.get("License-Expression"):
        return [said["License-Expression"]]
    short = [one for one in [said.get("License") or ""] if 0 < len(one) < 100]  # some have the whole text there
    if classifiers != ["OSI Approved"] and (classifiers or short):
        return [*classifiers, *short]
    files = [one for one in package.files or [] if re.match(r"LICEN[CS]E|COPYING", one.name, re.IGNORECASE)]
    return [one.read_text(encoding="utf-8")[:20_000] for one in files if ".dist-info" in str(one)]


def judged(said: list[str]) -> str | None:
    """What is wrong with it."""
    for one in said:
        if (refused := REFUSED.search(one)) is not None:
            return f"says {refused[0]}: {one[:120]!r}"
    return None if any(PERMISSIVE.search(one) for one in said) else f"says nothing that is known here: {said}"


def test_dependencies__have_licences_that_let_winnow_be_used_for_anything() -> None:
    found = needed()
    assert len(found) > 100
    wrong = {name: what for name, one in found.items() if (what := judged(statements(one))) is not None}
    explained = {**REASONS, **{name: NVIDIA for name in found if name.startswith("nvidia-")}}
    assert {name: what for name, what in wrong.items() if name not in explained} == {}
    # what is no longer needed, or no longer wrong, is taken out of the list; CUDA is there only where torch's wheel is
    assert set(REASONS) - set(wrong) <= {"cuda-toolkit"}


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        ("MIT", True),
        ("Apache-2.0 AND CNRI-Python", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("AGPL-3.0-only", False),
        ("GNU Affero General Public License v3 or later (AGPLv3+)", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("GPL-2.0-or-later WITH GCC-exception", False),
        ("MIT OR GPL-2.0-only", False),  # for a person to read
        ("CC-BY-NC-4.0", False),
        ("Free for non-commercial use", False),
        ("LGPL-3.0-only", False),
        ("", False),
    ],
)
def test_judged__by_its_words(said: str, ok: bool) -> None:
    assert (judged([said]) is None) is ok
