"""How is a number of things said? `1 image`, `2,048 images`."""


def counted(count: int, noun: str) -> str:
    """The number, and the noun in the form that it asks for; it must be one that takes an s."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
