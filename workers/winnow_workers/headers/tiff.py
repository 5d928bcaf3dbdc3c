"""What does a page of a TIFF claim? Its directory, and how many there are."""

from winnow_workers.headers.tags import Directory, directories, layout_of
from winnow_workers.limits import Claim, DecodeLimits

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 277, 278, 279
PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 284, 317, 322, 323, 324, 325
FILL_ORDER, EXTRA_SAMPLES, SAMPLE_FORMAT, ICC_PROFILE = 266, 338, 339, 34675
# Where the pixels are, and the layers that a program keeps for itself: as large as the image is, and none of them read
# more than once
_LARGE = frozenset({STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES, 37724})


def page_of(data: bytes, page: int, limits: DecodeLimits) -> tuple[Directory | None, Claim]:
    """The directory of a page (from 1), None if there is none; and what it claims, with all directories counted."""
    layout = layout_of(data)
    if layout is None:
        return None, Claim()
    seen: dict[int, int] = {}
    found, circle = None, None
    for number, directory in enumerate(directories(data, layout), 1):
        if directory.at in seen:
            circle = f"its page {number - 1} leads back to page {seen[directory.at]}, so that its pages never end"
            break
        seen[directory.at] = number
        found = directory if number == page else found
        if number > limits.max_frames:
            break
    claim = Claim(frames=len(seen), circle=circle)
    return found, claim if found is None else _claimed(data, found, claim)


def claim_of(data: bytes, limits: DecodeLimits) -> Claim:
    """Of the first page."""
    return page_of(data, 1, limits)[1]


def _claimed(data: bytes, page: Directory, counted: Claim) -> Claim:
    bits = page.numbers(data, BITS, 1)
    samples = page.number(data, SAMPLES, 1)
    metadata_bytes = sum(
        size - min(size, len(data)) if tag in _LARGE else size for tag, size in page.value_bytes.items()
    )
    return Claim(
        page.number(data, WIDTH),
        page.number(data, HEIGHT),
        (bits[0] if bits else 1) * samples,
        counted.frames,
        metadata_bytes=metadata_bytes,
        circle=counted.circle,
    )


def broken_chain(data: bytes) -> str | None:
    """Where the chain of directories leads out of the file; None where it ends as it should. It goes in no circle."""
    layout = layout_of(data)
    if layout is None:
        return "it has no header"
    pages = list(directories(data, layout))
    at = pages[-1].next_at if pages else layout.first
    return f"its page {len(pages) + 1} begins at byte {at}, where no directory is" if at else None


def with_first(data: bytes, page: Directory) -> bytes:
    """The file with `page` as its first directory."""
    start = 8 if page.layout.is_big else 4
    return b"".join(
        (data[:start], page.layout.offset.pack(page.at), memoryview(data)[start + page.layout.offset.size :])
    )
