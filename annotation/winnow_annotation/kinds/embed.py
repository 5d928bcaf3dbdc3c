"""What of an embedding can people call right or wrong? Which of an image's nearest neighbours show the same as it does.

A vector itself nobody can judge, so a person sees no prediction, only pictures: a review task has the neighbours as
they were found when it was made, and an answer is about these, whatever later runs find.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from winnow_annotation.kinds.geometry import Frame, Result

NEIGHBOURS = 4  # that people see of an image; more would be too small to be compared on one screen
SAME, DIFFERENT, UNCLEAR = "same", "different", "cannot say"
_CONTROL, _PICTURE = "same_", "neighbour_"  # and the place from 1, the nearest first
_SAID = {SAME: True, DIFFERENT: False, UNCLEAR: None}
_NAMED = ("item_id", "key", "version", "score")
# shown where there is no neighbour: 60 x 40 px of grey
NO_PICTURE = (
    "data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg' width='60' height='40'>"
    "<rect width='60' height='40' fill='silver'/></svg>"
)


def results(said: Mapping[str, Any], _frame: Frame | None) -> list[Result]:
    """What a person said of each neighbour, by place; nothing of a prediction, which makes no claim."""
    words = {same: word for word, same in _SAID.items() if same is not None}
    return [
        {
            "id": f"{_CONTROL}{place}",
            "from_name": f"{_CONTROL}{place}",
            "to_name": f"{_PICTURE}{place}",
            "type": "choices",
            "value": {"choices": [words[one["same"]]]},
        }
        for place, one in enumerate(said.get("neighbours") or (), start=1)
        if one.get("same") is not None
    ]


def value(answer: Sequence[Result]) -> Mapping[str, Any]:
    """{neighbours: [{same}]} of every place; null where nothing was chosen, or that nobody can say."""
    chosen = {result["from_name"]: result["value"]["choices"][0] for result in answer}
    words = [chosen.pop(f"{_CONTROL}{place}", UNCLEAR) for place in range(1, NEIGHBOURS + 1)]
    if chosen:
        raise KeyError(*chosen)
    return {"neighbours": [{"same": _SAID[word]} for word in words]}


def named(answered: Mapping[str, Any], neighbours: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The same of the neighbours that a review task shows, each with what names it; empty places are dropped."""
    pairs = zip(neighbours, answered["neighbours"], strict=False)
    return {"neighbours": [{**neighbour, **said} for neighbour, said in pairs]}


def placed(answered: Mapping[str, Any], neighbours: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """An answer, perhaps about other neighbours, as far as it is about those of a review task: in their order."""
    said = {one["item_id"]: one["same"] for one in answered.get("neighbours") or ()}
    return {"neighbours": [{"same": said.get(one["item_id"])} for one in neighbours]}


def data(neighbours: Sequence[Mapping[str, Any]], pictures: Sequence[str | None]) -> Mapping[str, Any]:
    """What a review task says of the neighbours: their names and pictures. One without a picture is left out."""
    shown = [(one, picture) for one, picture in zip(neighbours, pictures, strict=True) if picture is not None]
    places = [picture for _, picture in shown] + [NO_PICTURE] * (NEIGHBOURS - len(shown))
    return {
        "neighbours": [{name: one[name] for name in _NAMED} for one, _ in shown],
        **{f"{_PICTURE}{place}": picture for place, picture in enumerate(places, start=1)},
    }
