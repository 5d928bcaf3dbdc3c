"""Which operator makes every pixel stand in memory? The fingerprint, asking for images at full size."""

import os
from pathlib import Path

from winnow_workers.operators.embed import EmbedOperator

NOTE = "WINNOW_MEMORY_NOTE"  # a file that gets what is resident in a process when it is ready for its first image


class WholePixelsOperator(EmbedOperator):
    """Named by benchmarks as `tests.benchmarks.engine.whole_pixels:WholePixelsOperator`."""

    def open(self) -> None:
        """As the fingerprint, and note what the process takes (Linux)."""
        super().open()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        with Path(os.environ[NOTE]).open("a", encoding="ascii") as note:
            note.write(f"{pages * os.sysconf('SC_PAGE_SIZE')}\n")

    @property
    def needed_side_px(self) -> int | None:
        """Every pixel."""
        return None
