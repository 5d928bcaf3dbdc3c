"""Which items does a policy list, whatever the model says of them? By patterns of keys, and by single keys or ids."""

from collections.abc import Callable
from functools import lru_cache
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, model_validator

from winnow_annotation.people_spec import PeopleModel
from winnow_storage.listing import key_matcher

Mask = NDArray[np.bool_]
MOST_ITEMS = 10_000  # every plan holds them


class ItemList(PeopleModel):
    """Items by `globs` over their keys, as `corpus.include` has them; `items` by their key or item_id, exactly.

    `file` has such keys and ids, one a line; a run's plan holds them among its `items`, so that it needs no file. A
    plain list is `globs`.
    """

    globs: tuple[str, ...] = ()
    items: tuple[str, ...] = Field(default=(), max_length=MOST_ITEMS)
    file: str | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _a_list_is_of_globs(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f'write a list of patterns, ["{value}"], or {{file: items.txt}}')
        return {"globs": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _none_is_empty(self) -> Self:
        if not all([*self.globs, *self.items]):
            raise ValueError('an empty pattern names nothing: write ["legal/*"]')
        return self

    @property
    def is_empty(self) -> bool:
        """Whether it lists nothing."""
        return not (self.globs or self.items or self.file)


NO_ITEMS = ItemList()


def are_listed(listed: ItemList, keys: pa.StringArray, item_ids: pa.StringArray) -> Mask:
    """(n,) which of the items with these keys and ids are in the list.

    Raises:
        ValueError: the list's file was not read: it is of a spec that is not resolved.
    """
    if listed.file is not None:
        raise ValueError(f"{listed.file} was not read into the list")
    found = np.zeros(len(keys), np.bool_)
    if listed.globs:
        takes = _matcher(listed.globs)
        found |= np.fromiter(map(takes, keys.to_pylist()), np.bool_, len(keys))
    if listed.items:
        names = pa.array(listed.items, pa.string())
        for column in (keys, item_ids):
            found |= pc.is_in(column, names).to_numpy(zero_copy_only=False)
    return found


@lru_cache(maxsize=64)
def _matcher(globs: tuple[str, ...]) -> Callable[[str], bool]:
    return key_matcher(globs)
