"""In which line of a JSON file does an element of a list stand? For messages: the parser does not keep it."""

import json


def line_of(text: str, name: str, index: int) -> int:
    """The line (from 1) where element `index` begins: of the top-level list `name`, or of the file if that is a list.

    The text is JSON that was parsed already, and has that element.
    """
    decoder = json.JSONDecoder()
    place = _space(text, 1 if text.startswith("\ufeff") else 0)
    if text[place] == "[":
        return _element(text, place, index, decoder)
    place = _space(text, place + 1)
    while text[place] == '"':
        found, place = decoder.raw_decode(text, place)
        place = _space(text, _space(text, place) + 1)  # behind the colon
        if found == name:
            return _element(text, place, index, decoder)
        _, place = decoder.raw_decode(text, place)
        place = _space(text, _space(text, place) + 1)  # behind the comma
    return 1


def _element(text: str, place: int, index: int, decoder: json.JSONDecoder) -> int:
    place = _space(text, place + 1)
    for _ in range(index):
        _, place = decoder.raw_decode(text, place)
        place = _space(text, _space(text, place) + 1)  # behind the comma
    return text.count("\n", 0, place) + 1


def _space(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place
