import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_workers.evaluation.texts import Normalisation, error_rate, text_errors

TEXT = st.text(alphabet="abc é\n.", max_size=20)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(TEXT.filter(lambda text: bool(text.split())), TEXT), min_size=1, max_size=6))
def test_rates__agree_with_jiwer(pairs: list[tuple[str, str]]) -> None:
    squeezed = [(" ".join(true.split()), " ".join(read.split())) for true, read in pairs]
    found = [text_errors(true, read, Normalisation(unicode="none")) for true, read in pairs]
    truths, reads = [true for true, _ in squeezed], [read for _, read in squeezed]
    cer = error_rate([one.characters for one in found], [one.true_characters for one in found])
    wer = error_rate([one.words for one in found], [one.true_words for one in found])
    assert cer == pytest.approx(jiwer.cer(truths, reads), abs=1e-9)
    assert wer == pytest.approx(jiwer.wer(truths, reads), abs=1e-9)


@pytest.mark.parametrize(
    ("normalisation", "made"),
    [
        (Normalisation(), "\N{LATIN SMALL LETTER E WITH ACUTE}tÉ, ﬁn. x"),
        (Normalisation(unicode="NFKC", fold_case=True), "été, fin. x"),
        (Normalisation(drop_punctuation=True), "étÉ ﬁn x"),
        (Normalisation(space="remove"), "étÉ,ﬁn.x"),
        (Normalisation(unicode="none", space="keep"), " e\u0301tÉ, \nﬁn.  x "),
    ],
)
def test_normalisation__each_option(normalisation: Normalisation, made: str) -> None:
    assert normalisation.apply(" e\u0301tÉ, \nﬁn.  x ") == made


def test_rates__without_true_text() -> None:
    assert np.isnan(error_rate([3], [0]))
    assert not text_errors("", "xyz", Normalisation()).is_exact
    assert text_errors("a b", "a\n b ", Normalisation()).is_exact
