"""How does a browser get to see an image in a format that it does not open? As a JPEG rendition."""

import io

from PIL import Image

from winnow_workers.decode import DecodeLimits, decode


def to_browser_image(data: bytes, limits: DecodeLimits) -> bytes:
    """The image at full size as JPEG bytes, upright and in sRGB.

    Raises:
        Unreadable, Rejected: as `decode` does.
    """
    decoded = decode(data, needed_side_px=None, limits=limits)
    buffer = io.BytesIO()
    Image.fromarray(decoded.pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
