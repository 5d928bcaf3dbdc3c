"""Which pages does a PDF document have? Read whole, which its store checks, and counted in a process of its own."""

from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import BlobReplaced
from winnow_storage.packed.index import Index
from winnow_storage.packed.names import PAGE_DIGITS, page_fragment
from winnow_storage.packed.pdf_pages import PageCounter


def pdf_index(store: BlobStore, info: BlobInfo, pages: PageCounter) -> Index:
    """Its pages, from 1; they have no size of their own.

    Raises:
        BlobMissing, BlobReplaced: the document is not there any more.
        CountingEnded: nothing is known of it.
    """
    document = store.read(info.key)
    if document.version != info.version:
        raise BlobReplaced(f"{store.root}/{info.key} was replaced since it was listed")
    counted = pages.count(document.data)
    if isinstance(counted, str):
        return Index.unopened(counted)
    if counted >= 10**PAGE_DIGITS:
        return Index.unopened(f"it claims {counted} pages")
    return Index.of((f"{page:0{PAGE_DIGITS}d}", page_fragment(page), None) for page in range(1, counted + 1))
