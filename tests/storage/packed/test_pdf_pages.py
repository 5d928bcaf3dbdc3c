"""Are pages counted, whatever a document does to the process that counts them?"""

import os
import signal
from pathlib import Path

import pytest

from tests.packed_files import pdf_of, solid
from winnow_storage.packed.pdf_pages import CountingEnded, PageCounter


def test_count__a_claim_that_the_document_cannot_hold() -> None:
    document = pdf_of([solid((1, 2, 3))]).replace(b"/Count 1", b"/Count 900000")
    counter = PageCounter()
    assert counter.count(document) == f"it claims 900000 pages in {len(document)} bytes"
    counter.close()


def test_count__a_module_of_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    counter = PageCounter()
    assert counter.count(pdf_of([solid((1, 2, 3))])) == 1
    counter.close()


def test_count__pages_or_what_is_wrong() -> None:
    counter = PageCounter()
    assert counter.count(pdf_of([solid((1, 2, 3))] * 3)) == 3
    assert counter.count(b"text") == "Failed to load document (PDFium: Data format error)."
    assert counter.count(b"") == "Failed to load document (PDFium: Data format error)."
    assert counter.count(pdf_of([solid((1, 2, 3))])) == 1
    counter.close()
    counter.close()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGALRM"])  # the last is how one that takes too long ends
def test_count__a_process_that_ends_is_said_of_its_document_and_the_next_is_counted(name: str) -> None:
    document = pdf_of([solid((1, 2, 3))])
    counter = PageCounter()
    assert counter.count(document) == 1
    process = counter._process
    assert process is not None
    os.kill(process.pid, signal.Signals[name])
    process.wait()
    with pytest.raises(CountingEnded, match=f"the process that counted its pages ended with {name}"):
        counter.count(document)
    assert counter.count(document) == 1
    counter.close()
