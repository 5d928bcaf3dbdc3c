"""Random rows and selections of runs, for those who compare two ways to read many of them."""

from collections.abc import Sequence

from hypothesis import strategies as st

from tests.jobs.histories import DAY_0, Row
from winnow_jobs.plan import Selection
from winnow_storage.schemas import Outcome

KEYS = st.text(
    alphabet="ab-/\u00e9\uff5e\U00010000", min_size=1, max_size=3
)  # UTF-16 and UTF-8 order the last two differently
RETRIES = st.lists(st.sampled_from([one for one in Outcome if one is not Outcome.DONE]), max_size=2, unique=True)


@st.composite
def rows_of(draw: st.DrawFn, names: Sequence[str]) -> list[list[Row] | None]:
    """Shards with rows sorted by key, some of them never committed."""
    keys = sorted(draw(st.sets(KEYS, max_size=8)), key=lambda key: key.encode())
    rows = []
    for key in keys:
        outcome = draw(st.sampled_from(Outcome))
        ran = draw(st.dictionaries(st.sampled_from(names), st.booleans()))
        rows.append(Row(key, draw(st.sampled_from(["v1", "v2"])), outcome, ran))
    size = draw(st.integers(1, 4))
    shards = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [None if draw(st.integers(0, 5)) == 0 else shard for shard in shards]


@st.composite
def selections(draw: st.DrawFn, runs: int, names: Sequence[str]) -> Selection:
    dates = [DAY_0.replace(day=DAY_0.day + number).isoformat() for number in range(runs + 2)]
    since = draw(st.sampled_from([None, None, *(f"{number:04d}" for number in range(1, runs + 1)), *dates]))
    chosen = draw(st.sampled_from([(), (), tuple(names[:1])]))
    return Selection(tasks=chosen, retry=tuple(draw(RETRIES)), since=since)
