"""Is a place named one way, whatever way the user wrote it?"""

from pathlib import Path

import pytest

from winnow_storage import blobs
from winnow_storage.errors import SpecError
from winnow_storage.uri import Location, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/photos", Location("file", "", "/data/photos")),
        ("/data/photos/", Location("file", "", "/data/photos")),
        ("/data/../etc/./x", Location("file", "", "/etc/x")),
        ("photos", Location("file", "", "/base/photos")),
        ("../photos", Location("file", "", "/photos")),
        ("file:///data/a%20b/%C3%BC", Location("file", "", "/data/a b/\u00fc")),
        ("s3://bucket", Location("s3", "bucket", "")),
        ("s3://bucket/", Location("s3", "bucket", "")),
        ("s3://bucket/a b/c/", Location("s3", "bucket", "a b/c")),
    ],
)
def test_parse__table(text: str, expected: Location) -> None:
    assert parse(text, base=Path("/base")) == expected


@pytest.mark.parametrize("text", ["gs://bucket/x", "http://host/x", "s3://", "s3:///x"])
def test_parse__refused(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert text in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("location", "uri", "shown"),
    [
        (Location("file", "", "/a b/\u00fc#?%.jpg"), "file:///a%20b/%C3%BC%23%3F%25.jpg", "/a b/\u00fc#?%.jpg"),
        (Location("s3", "b", "a b/\u00fc#?%.jpg"), "s3://b/a b/\u00fc#?%.jpg", "s3://b/a b/\u00fc#?%.jpg"),
        (Location("s3", "b", ""), "s3://b", "s3://b"),
    ],
)
def test_location__canonical_uri(location: Location, uri: str, shown: str) -> None:
    assert (location.uri, str(location)) == (uri, shown)
    assert parse(uri) == location


def test_location__parts() -> None:
    place = Location("s3", "b", "folder/corpus.csv")
    assert (place.name, place.parent, place.parent.parent) == (
        "corpus.csv",
        Location("s3", "b", "folder"),
        Location("s3", "b", ""),
    )
    assert place.parent.parent / "x" / "y" == Location("s3", "b", "x/y")
    assert Location("file", "", "/") / "x" == Location("file", "", "/x")


@pytest.mark.parametrize("key", ["a//b.jpg", "./a", "a?b#c", "a%20b"])
def test_locate__s3_keys_stay_as_they_are(key: str) -> None:
    root = Location("s3", "b", "prefix")
    assert blobs.locate(blobs.uri_of(root, key)) == (Location("s3", "b", ""), f"prefix/{key}")


@pytest.mark.parametrize("uri", ["s3://b", "s3://b/", "s3:///k", "file://host/x", "file:///", "/x", "gs://b/k", ""])
def test_locate__names_no_object(uri: str) -> None:
    with pytest.raises(SpecError, match="does not name an object"):
        blobs.locate(uri)
