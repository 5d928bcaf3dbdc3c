"""Which Tesseract is installed here, with which languages? Found and pinned by version and by the data's digests.

`builtin/tesseract` reads English, `builtin/tesseract/deu+eng` German and English.
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_bytes, digest_value

TESSERACT = "builtin/tesseract"
_DEFAULT_LANGUAGE = "eng"
_FOLDERS = (
    "/usr/share/tesseract-ocr/5/tessdata",  # Debian and Ubuntu
    "/usr/share/tesseract-ocr/4.00/tessdata",
    "/usr/share/tessdata",  # Arch, Alpine
    "/usr/share/tesseract/tessdata",  # Fedora
    "/usr/local/share/tessdata",
    "/opt/homebrew/share/tessdata",
)


def is_tesseract(reference: str) -> bool:
    """Whether a model's name means Tesseract."""
    return reference == TESSERACT or reference.startswith(f"{TESSERACT}/")


def languages_of(reference: str) -> tuple[str, ...]:
    """The languages that a name asks for, such as ("deu", "eng").

    Raises:
        ModelError: a language that is no file's name.
    """
    named = reference.removeprefix(TESSERACT).removeprefix("/")
    languages = tuple((named or _DEFAULT_LANGUAGE).split("+"))
    for language in languages:
        if not language.replace("_", "").isalnum() or not language.isascii():
            raise ModelError(
                f"{reference!r} names no language {language!r}", hint=f"write {TESSERACT}/eng, or {TESSERACT}/deu+eng"
            )
    return languages


def traineddata(reference: str) -> Mapping[str, Path]:
    """The file of every language that a name asks for; all lie in one folder, as the library wants it.

    `$TESSDATA_PREFIX` is looked into first, and alone if it is set.

    Raises:
        ModelError: one is not there.
    """
    chosen = os.environ.get("TESSDATA_PREFIX")
    folders = [Path(folder) for folder in ((chosen,) if chosen else _FOLDERS)]
    languages = languages_of(reference)
    for folder in folders:
        files = {language: folder / f"{language}.traineddata" for language in languages}
        if all(file.is_file() for file in files.values()):
            return files
    known = sorted({file.stem for folder in folders for file in folder.glob("*.traineddata")})
    absent = [language for language in languages if language not in known] or list(languages)
    packages = " ".join(f"tesseract-ocr-{language.lower().replace('_', '-')}" for language in absent)
    where = f"in $TESSDATA_PREFIX ({chosen})" if chosen else "in any folder where it is usually kept"
    raise ModelError(
        f"{reference}: there is no language data for {', '.join(absent)} {where}"
        + (f"; there is for {', '.join(known)}" if known else ""),
        hint=f"apt-get install {packages}, or set TESSDATA_PREFIX to the folder that holds {absent[0]}.traineddata",
    )


def tesserocr() -> Any:
    """The library, imported so that its threads stay out of our way: pages run side by side instead.

    Raises:
        ModelError: it is not installed.
    """
    if find_spec("tesserocr") is None:
        raise ModelError(f"{TESSERACT}: the package tesserocr is not installed", hint="pip install 'winnow[tesseract]'")
    before = os.environ.get("OMP_THREAD_LIMIT")
    os.environ["OMP_THREAD_LIMIT"] = "1"  # read once, when the library is loaded; torch's is another one
    try:
        import tesserocr as library
    finally:
        if before is None:
            del os.environ["OMP_THREAD_LIMIT"]
        else:
            os.environ["OMP_THREAD_LIMIT"] = before
    return library


def tesseract_version() -> str:
    """The version of the Tesseract library itself, such as "5.5.4".

    Raises:
        ModelError: it is not installed.
    """
    return str(tesserocr().tesseract_version()).split()[1]


def tesseract_digest(reference: str) -> str:
    """One sha256 over the library's version and, in the order in which they are tried, the languages' data.

    Raises:
        ModelError: the library or a language is not installed.
    """
    version = tesseract_version()
    data = [[language, digest_bytes(file.read_bytes())] for language, file in traineddata(reference).items()]
    return digest_value({"version": version, "data": data})
