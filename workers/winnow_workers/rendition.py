"""How does a browser get to see an image that it does not open as it is? As a JPEG rendition."""

import io

from PIL import Image

from winnow_workers.fetch import Fetcher, Item
from winnow_workers.signals import Unavailable


def to_browser_image(uri: str, version: str, fetcher: Fetcher) -> bytes:
    """An item at full size as JPEG bytes, upright and in sRGB.

    Raises:
        ItemSignal: what ended the item when it was fetched and decoded.
        StoreError: the store refuses us.
    """
    fetched = fetcher.fetch(Item("", "", uri, version, None, frozenset()), needed_side_px=None)
    if fetched.decoded is None:
        raise fetched.signal or Unavailable("nothing came")
    buffer = io.BytesIO()
    Image.fromarray(fetched.decoded.pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
