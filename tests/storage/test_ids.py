"""Are ids the same on every machine, and different for different things?"""

import pytest

from winnow_storage import ids


def test_digest_bytes__known_vector() -> None:
    # FIPS 180-4, the message "abc"
    assert ids.digest_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_canonical_json__order_does_not_matter() -> None:
    assert ids.canonical_json({"b": [1, None], "a": "\u00fc"}) == '{"a":"\u00fc","b":[1,null]}'
    assert ids.digest_value({"b": 1, "a": 2}) == ids.digest_value({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        ids.canonical_json(float("nan"))


def test_item_id__of_corpus_and_key() -> None:
    assert ids.item_id("shelves", "a/b.jpg") == ids.item_id("shelves", "a/b.jpg")
    assert len(ids.item_id("shelves", "a/b.jpg")) == 32
    assert ids.item_id("shelves", "a/b.jpg") != ids.item_id("other", "a/b.jpg")
    assert ids.item_id("a", "bc") != ids.item_id("ab", "c")


def test_dedupe_key__every_part_counts() -> None:
    parts = {"job": "j", "task": "t", "item": "i", "version": "v", "purpose": "review"}
    keys = {ids.dedupe_key(**(parts | {name: "other"}), round_number=1) for name in parts}
    keys |= {ids.dedupe_key(**parts, round_number=1), ids.dedupe_key(**parts, round_number=2)}
    assert len(keys) == 7
