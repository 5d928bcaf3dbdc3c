"""Random histories of an output: runs with different tasks, versions, outcomes, gone items, failed retries, gaps."""

import pyarrow as pa
from hypothesis import strategies as st

from tests.storage.many_runs import KIND, VECTOR, Row, Run, failed, usable

KEYS = ("a/1.jpg", "a-1.jpg", "b/\u00fc 2.jpg", "b/\U0001f600.jpg", "c.jpg", "d.jpg")
TASKS = {
    "kind": [KIND, KIND, [*KIND, pa.field("margin", pa.float32())]],
    "vector": [VECTOR],
    "extra": [[pa.field("value", pa.int32())], [pa.field("value", pa.int64())]],
}  # the own fields that a task may have in a run


@st.composite
def struct(draw: st.DrawFn, task: str, label: str) -> dict[str, object] | None:
    kind = draw(st.sampled_from(["usable", "usable", "failed", "absent", "no model"]))
    own: dict[str, dict[str, object]] = {
        "kind": {"label": label},
        "vector": {"vector": [1.0, 2.0, float(len(label)), 0.5]},
        "extra": {"value": len(label)},
    }
    return {"usable": usable(**own[task]), "failed": failed(), "absent": None, "no model": {"score": 0.1}}[kind]


@st.composite
def run(draw: st.DrawFn, number: int) -> Run:
    run_id = f"{number:04d}"
    snapshot = {key: draw(st.sampled_from(["v1", "v1", "v2"])) for key in draw(st.sets(st.sampled_from(KEYS)))}
    names = sorted(draw(st.sets(st.sampled_from(sorted(TASKS)), min_size=1)))
    tasks = {name: draw(st.sampled_from(TASKS[name])) for name in names}
    rows = []
    for key in sorted(snapshot, key=lambda one: one.encode()):
        if draw(st.booleans()):
            outcome = draw(st.sampled_from([None, None, None, "unreadable", "unavailable", "missing"]))
            structs = {name: draw(struct(name, f"{run_id} {key}")) for name in tasks} if outcome is None else {}
            rows.append(Row(key, snapshot[key], structs, outcome))
    size = draw(st.integers(1, 3))
    cut = [rows[start : start + size] for start in range(0, len(rows), size)]
    # what is not committed is not there: the run is open, or was abandoned
    committed = frozenset(number for number in range(len(cut)) if draw(st.integers(0, 3)))
    return Run(run_id, snapshot, tasks, cut, committed)


@st.composite
def many_runs(draw: st.DrawFn) -> list[Run]:
    numbers = draw(st.sampled_from([[1], [1, 2], [1, 2, 3], [8, 9, 10, 11], [9998, 10000, 10001]]))
    return [draw(run(number)) for number in numbers]
