"""When more labels are no longer worth it, and the sentence that says so."""

import pytest

from winnow_annotation.gate.paired import Pairs
from winnow_annotation.stopping import Advice, advice_text, advise


@pytest.mark.parametrize(
    ("pairs", "advice", "text"),
    [
        (Pairs(400, 30, 6), Advice.GO_ON, "doubling the labels to 200 gained +6.00% on 400 gold items"),
        (Pairs(2000, 3, 2), Advice.ENOUGH, "another 200 labels will gain less than 1.0%, so more hardly help"),
        (Pairs(100, 3, 2), Advice.OPEN, "cannot be told from so little gold"),
        (Pairs(0, 0, 0), Advice.OPEN, "gained +0.00% on 0 gold items (-100.00% to +100.00%)"),
    ],
)
def test_advise__by_what_the_last_doubling_gained(pairs: Pairs, advice: Advice, text: str) -> None:
    found = advise(pairs, 200, worthwhile=0.01, certainty=0.95)
    assert found.advice is advice
    assert text in advice_text(found)
    assert found.low <= found.gain <= found.high
