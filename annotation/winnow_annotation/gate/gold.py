"""Which items never teach? A share of all, by what an item is: frozen, the same for everybody, and kept nowhere.

Those of them that a uniform draw of purpose `calibrate` sent to people, and that people answered, are the gold set. A
larger share holds all of a smaller one, so what has never taught under one never did under a smaller one.
"""

from winnow_annotation.sampling import drawn


def is_reserved(job: str, task: str, key: str, *, share: float) -> bool:
    """Whether the item of this key never teaches a head of the task."""
    return drawn("gold", job, task, key, share=share)
