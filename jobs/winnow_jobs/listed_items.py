"""Which items do the files of a spec's policies list? They are read when a spec is resolved, and stand in the plan."""

from pathlib import Path

from winnow_annotation.item_lists import MOST_ITEMS, ItemList
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_storage.blobs import open_store
from winnow_storage.errors import BlobMissing, SpecError
from winnow_storage.uri import parse

_LISTS = ("always_review_items", "never_review_items")


def with_listed_items(review: ReviewSpec, base: Path) -> ReviewSpec:
    """The same, with the lines of every `file` of a policy's lists among its `items`.

    Raises:
        SpecError: a file is not there, is not UTF-8, or lists too many. StoreError: the store does not answer.
    """
    policies = {task: _read_policy(policy, base, f"review.policies.{task}") for task, policy in review.policies.items()}
    return review.model_copy(update={"policies": policies})


def _read_policy(policy: Policy, base: Path, where: str) -> Policy:
    lists = {name: getattr(policy, name) for name in _LISTS}
    read = {name: _read(one, base, f"{where}.{name}") for name, one in lists.items() if one.file is not None}
    return policy.model_copy(update=read) if read else policy


def _read(listed: ItemList, base: Path, where: str) -> ItemList:
    place = parse(listed.file or "", base=base)
    try:
        text = open_store(place.parent).get(place.name).decode("utf-8-sig")
    except BlobMissing as error:
        raise SpecError(f"{where}: there is no file {place}", hint="a text file, one key or item_id a line") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{where}: {place} is not UTF-8 ({error.reason})", hint="save it as UTF-8") from error
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    items = sorted({*listed.items, *(line for line in lines if line.strip())})
    if len(items) > MOST_ITEMS:
        raise SpecError(
            f"{where}: {place} lists {len(items):,} items, and a plan holds {MOST_ITEMS:,} at most",
            hint='name them by patterns of their keys, such as ["legal/*"]',
        )
    return ItemList(globs=listed.globs, items=tuple(items))
