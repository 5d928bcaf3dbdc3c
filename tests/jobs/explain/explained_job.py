"""A job to be explained: real plans over real files, a classifier's rows as told, and people who answer."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.jobs.histories import DAY_0, Row, receipt, spec
from winnow_annotation.policies import ReviewSpec
from winnow_jobs.begin import begin_or_go_on
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.run import Tally, finish
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import open_store
from winnow_storage.ids import digest_bytes
from winnow_storage.parts import WorkReader
from winnow_storage.registry import Registry
from winnow_storage.schemas import SNAPSHOT, Outcome, result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.models.reference import ResolvedModel, Weights

TASK, MODEL = "kind", b"the weights of kind"
CARD = {"architecture": "builtin/kind", "parent": "kind@1", "trained_on": "shelves of 2025"}
TOP = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())]))
FIELDS = [
    pa.field("label", pa.string()),
    pa.field("margin", pa.float32()),
    pa.field("entropy", pa.float32()),
    pa.field("top", TOP),
]
YAML = """\
name: shelves
corpus: {id: shelves, uri: corpus, include: ["*.jpg"]}
output: out
registry: registry
ledger: sqlite:///LEDGER
tasks: [{name: kind, operator: classify, model: models/kind@prod}]
review:
  label_studio: {url: http://127.0.0.1:8080}
  policies: {kind: {min_p_ok: 0.9}}
"""

Scored = Callable[[str], float]  # of a key: the score of its prediction, which says "tin"


def add_files(folder: Path, *keys: str) -> None:
    for key in keys:
        place = folder / "corpus" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * 7)


class ExplainedJob:
    """A classifier over the files of `folder`/corpus, four items a shard."""

    def __init__(self, folder: Path, review: Mapping[str, Any]) -> None:
        self.folder = folder
        registry = Registry(open_store(parse(str(folder / "registry"))))
        registry.add("kind", b"older", {"architecture": "builtin/kind"})
        entry = registry.add("kind", MODEL, CARD)
        registry.promote("kind", entry.version, "prod")
        digest = digest_bytes(MODEL)
        model = ResolvedModel(
            name="models/kind@prod",
            architecture=None,
            weights=Weights(kind="file", uri=entry.uri, sha256=digest),
            digest=digest,
        )
        task = ResolvedTask(name=TASK, operator="classify", revision=1, params={}, model=model)
        self.spec: ResolvedSpec = spec(folder, task).model_copy(update={"review": ReviewSpec.model_validate(review)})
        self.runs = Runs(open_store(parse(self.spec.output)))
        (folder / "job.yaml").write_text(YAML.replace("LEDGER", str(folder / "ledger.db")))

    def begin(self, *, new: bool = False) -> PlanDocument:
        """The next run, begun."""
        number = len(self.runs.ids()) + 1
        sized = self.spec.model_copy(update={"run": self.spec.run.model_copy(update={"shard_items": 4})})
        at = DAY_0 + timedelta(days=number)
        plan, _ = begin_or_go_on(self.runs, sized, Selection(), new=new, now=lambda: at)
        assert plan is not None
        return plan

    def run(self, score: Scored, *, outcomes: Mapping[str, Outcome] | None = None) -> PlanDocument:
        """The next run, every item of it predicted but those that ended otherwise, and routed."""
        plan, tally = self.begin(), Tally()
        work = WorkReader(self.runs.store, plan.work)
        for shard in range(plan.shards):
            items = work.rows(shard).select([*SNAPSHOT.names, "shard"]).to_pylist()
            ended = {one["key"]: (outcomes or {}).get(one["key"], Outcome.DONE) for one in items}
            rows = [_row(one, ended[one["key"]], score(one["key"]), plan.run_id) for one in items]
            table = pa.Table.from_pylist(rows, schema=result_schema({TASK: FIELDS}))
            told = receipt(plan, shard, [Row(one["key"], outcome=ended[one["key"]]) for one in items])
            assert self.runs.store.put_if_absent(shard_key(plan.run_id, shard), encode_shard(table, told))
            tally.add(told, now=True)
        finish(self.runs, plan, tally, 1.0)
        return plan


def _row(item: Mapping[str, Any], outcome: Outcome, score: float, run_id: str) -> dict[str, Any]:
    row = dict(item) | {"outcome": str(outcome), "failed_tasks": [], "run_id": run_id}
    if outcome is not Outcome.DONE:
        return row | {"reason": "cut off"}
    top = [{"label": "tin", "score": score}, {"label": "jar", "score": 1 - score}]
    struct = {"model": digest_bytes(MODEL), "preproc": "p1", "score": score, "score_kind": "softmax", "label": "tin"}
    struct |= {"margin": 2 * score - 1, "entropy": 1 - score, "top": top}
    return row | {"content_sha256": "c0ffee", "format": "jpeg", "width": 8, "height": 6, TASK: struct}
