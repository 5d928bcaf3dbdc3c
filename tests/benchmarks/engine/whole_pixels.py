"""Which operator makes every pixel stand in memory? The fingerprint, asking for images at full size."""

from winnow_workers.operators.embed import EmbedOperator


class WholePixelsOperator(EmbedOperator):
    """Named by benchmarks as `tests.benchmarks.engine.whole_pixels:WholePixelsOperator`."""

    @property
    def needed_side_px(self) -> int | None:
        """Every pixel."""
        return None
