"""What do several people's sets of labels together say? Each label by itself: is it there or not?"""

from collections import defaultdict
from collections.abc import Sequence

from winnow_annotation.consensus.choices import consensus_of_choices
from winnow_annotation.consensus.opinions import Answer, Consensus, Method, Opinion


def consensus_of_sets(opinions: Sequence[Opinion], *, method: Method) -> Consensus:
    """`labels` of the opinions' values; an item's posterior is that of its least sure label.

    People's accuracies are those over all (item, label). A model's beliefs are of one label, and are not used.
    """
    said = [one for one in opinions if one.value.get("labels") is not None]
    names = sorted({label for one in said for label in one.value["labels"]})
    method = Method.MAJORITY if method is Method.MAJORITY else Method.DAWID_SKENE
    there = [
        Opinion(f"{one.item}\0{label}", one.annotator, {"there": label in one.value["labels"]})
        for one in said
        for label in names
    ]
    found = consensus_of_choices(there, "there", method=method, answers=(False, True))
    labels: dict[str, list[str]] = {one.item: [] for one in said}
    sure: dict[str, float] = defaultdict(lambda: 1.0)
    agreed: dict[str, bool] = defaultdict(lambda: True)
    for pair, answer in found.answers.items():
        item, _, label = pair.partition("\0")
        sure[item] = min(sure[item], answer.posterior)
        agreed[item] = agreed[item] and answer.agreed
        if answer.value["there"]:
            labels[item].append(label)
    answers = {item: Answer({"labels": sorted(some)}, sure[item], agreed[item]) for item, some in labels.items()}
    return Consensus(answers, found.accuracy, found.confusion)
