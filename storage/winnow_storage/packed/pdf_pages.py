"""How many pages does a PDF document have? Asked of another process: the library that knows reads hostile bytes in C.

Started as a program, this file is that process: documents on stdin, each behind its length, a line of JSON for each on
stdout. What takes too long there ends it.
"""

import contextlib
import json
import resource
import signal
import subprocess
import sys
import threading
from typing import IO, cast

LENGTH_BYTES = 8
MEMORY_BYTES = 4 << 30  # of the process; what is packed may unpack to anything
PAGES_OF_ANY, PAGE_BYTES_LEAST = 1000, 8  # a count is a claim: so many are believed, and one for so many packed bytes
COUNT_S = 60  # of one document; milliseconds are usual


class CountingEnded(Exception):
    """The process ended over a document, or was ended beside it: nothing is known of the document."""


class PageCounter:
    """The process, started when the first document comes; from any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End the process; the next document starts another one."""
        with self._lock:
            self._end()

    def count(self, document: bytes) -> int | str:
        """Its pages, or what is wrong with it.

        Raises:
            CountingEnded: the process that was asked is no more.
        """
        with self._lock:
            process = self._process = self._process or _started()
            asking, answering = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)  # both are pipes
            with contextlib.suppress(BrokenPipeError):  # it ended over this document; how, is said below
                asking.write(len(document).to_bytes(LENGTH_BYTES, "big"))
                asking.write(document)
                asking.flush()
            answer = answering.readline()
            if not answer:
                raise CountingEnded(f"the process that counted its pages ended with {_how(self._end())}")
        said: int | str = json.loads(answer)
        return said

    def _end(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return process.wait()


def _started() -> "subprocess.Popen[bytes]":
    # -P: no module of the current folder is imported
    command = [sys.executable, "-P", "-m", "winnow_storage.packed.pdf_pages"]
    return subprocess.Popen(  # noqa: S603  (our own argument list, no shell)
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _how(code: int) -> str:
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit {code}"


def _serve(documents: IO[bytes], answers: IO[bytes]) -> None:
    while head := documents.read(LENGTH_BYTES):
        document = documents.read(int.from_bytes(head, "big"))
        signal.alarm(COUNT_S)  # its default action ends the process, wherever it is
        answers.write(json.dumps(_counted(document)).encode() + b"\n")
        signal.alarm(0)
        answers.flush()


def _counted(document: bytes) -> int | str:
    import pypdfium2

    try:
        with pypdfium2.PdfDocument(document) as pdf:
            return _believed(len(pdf), len(document))
    except pypdfium2.PdfiumError as error:
        return str(error)


def _believed(pages: int, size_bytes: int) -> int | str:
    if pages > max(PAGES_OF_ANY, size_bytes // PAGE_BYTES_LEAST):
        return f"it claims {pages} pages in {size_bytes} bytes"
    return pages or "it has no pages"


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES if hard < 0 else min(MEMORY_BYTES, hard), hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal's processes; the parent decides
    _serve(sys.stdin.buffer, sys.stdout.buffer)
