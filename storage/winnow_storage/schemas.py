"""What does every dataset look like on disk? Each Arrow schema, once."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

import pyarrow as pa


class Outcome(StrEnum):
    """How an item ended in a run; exactly one."""

    DONE = "done"
    UNREADABLE = "unreadable"
    MISSING = "missing"
    REJECTED = "rejected"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"


class Route(StrEnum):
    """What is done with a prediction; exactly one."""

    ACCEPT = "accept"
    REVIEW = "review"
    AUDIT = "audit"
    CALIBRATE = "calibrate"
    HOLD = "hold"


class Purpose(StrEnum):
    """Why a person is asked about an item; exactly one. The first three are routes, the others follow from answers."""

    REVIEW = "review"
    AUDIT = "audit"
    CALIBRATE = "calibrate"
    GOLD = "gold"  # the answer is known: it tells how good people are
    SECOND_LOOK = "second_look"  # the label that stands looks wrong
    ADJUDICATE = "adjudicate"  # people differ


UTC_US = pa.timestamp("us", tz="UTC")

# A snapshot: every item of a corpus as it was listed, sorted by the UTF-8 bytes of `key`.
SNAPSHOT = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("bytes", pa.int64()),
    ]
)

# Where a row of the results stands: the run, its shard, and the row's number in the shard's object.
PLACE = pa.struct([pa.field("run_id", pa.string()), pa.field("shard", pa.int32()), pa.field("row", pa.int32())])

# Where the vector of a task stands that is taken from a committed row of the same item and version.
STORED_VECTOR = pa.struct([pa.field("task", pa.string()), *PLACE])

# The work of a run: its due items in shards, one row group per shard, with the tasks that are due for each. `leader` is
# set for a copy: the row that is expected to be of the same bytes, whose predictions it then takes over; `is_repeated`
# says of a copy, or of an item of which nothing is fetched, whether an item before it in the run is expected to be of
# these bytes as well. `vectors` is set where the due tasks need nothing but vectors that are committed already: of such
# an item nothing is fetched.
WORK = pa.schema(
    [
        *SNAPSHOT,
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("tasks", pa.list_(pa.string()), nullable=False),
        pa.field("leader", PLACE),
        pa.field("is_repeated", pa.bool_()),
        pa.field("vectors", pa.list_(STORED_VECTOR)),
    ]
)

WORK_BEFORE = WORK.remove(WORK.get_field_index("vectors"))  # of runs that began before there were heads

# Results: the common columns of a row; then one struct column per task.
RESULT_COMMON = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),  # px, of the upright image (after EXIF)
        pa.field("height", pa.int32()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("failed_tasks", pa.list_(pa.string()), nullable=False),
        pa.field("copied_from", pa.string()),  # item_id of the row whose predictions it took over: of the same bytes
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
    ]
)

# The first fields of every task's struct; the operator's own follow.
PREDICTION_COMMON: tuple[pa.Field, ...] = (
    pa.field("model", pa.string()),  # digest
    pa.field("preproc", pa.string()),
    pa.field("score", pa.float32()),
    pa.field("score_kind", pa.string()),
    pa.field("p_ok", pa.float32()),
    pa.field("calibrator", pa.string()),
    pa.field("error", pa.string()),
)

RLE = pa.struct([pa.field("size", pa.list_(pa.int32(), 2)), pa.field("counts", pa.string())])  # COCO, [height, width]
BOX_XYXY_PX = pa.list_(pa.float32(), 4)  # absolute pixels of the upright image

# Routes: what was decided about every prediction of a run, and from what.
ROUTES = pa.schema(
    [
        pa.field("job", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("operator", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("route", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("score", pa.float32()),
        pa.field("p_ok", pa.float32()),
        pa.field("calibrator", pa.string()),
        pa.field("model", pa.string()),
        # of those that go to a person only:
        pa.field("dedupe_key", pa.string()),
        pa.field("round", pa.int32()),
        pa.field("prediction", pa.string()),  # JSON of the task's struct
        # of random draws only (audit, calibrate): the chance that this prediction had of being drawn
        pa.field("inclusion", pa.float64()),
        # of reviews that were chosen among more than the budget only: by what, and among how many
        pa.field("chosen", pa.string()),
        # of embeddings that go to a person only: JSON list of {item_id, key, uri, version, score}, which the image is
        # shown beside
        pa.field("neighbours", pa.string()),
        # of predictions that an earlier run made and held over its budget only: that run
        pa.field("predicted_run", pa.string()),
    ]
)

# Labels: append-only events, one row per state that an annotation was seen in.
LABELS = pa.schema(
    [
        pa.field("label_id", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),  # created | updated | deleted
        pa.field("dedupe_key", pa.string(), nullable=False),
        pa.field("job", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("operator", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("purpose", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("server", pa.string(), nullable=False),  # URL of the Label Studio that counts the ids below
        pa.field("annotation_id", pa.string(), nullable=False),
        pa.field("project_id", pa.int64(), nullable=False),
        pa.field("ls_task_id", pa.int64(), nullable=False),
        pa.field("annotator", pa.string()),
        pa.field("created_at", UTC_US),
        pa.field("updated_at", UTC_US),
        pa.field("was_cancelled", pa.bool_(), nullable=False),  # the person skipped it
        pa.field("lead_time_s", pa.float64()),
        pa.field("value", pa.string()),  # JSON in Winnow's own frames: label, lines, masks, regions
        pa.field("raw", pa.string()),  # JSON of Label Studio's result, as it came
        pa.field("config_hash", pa.string()),
        pa.field("model", pa.string()),  # digest of the model whose prediction was shown, null if none was
        pa.field("shown", pa.string()),  # JSON of the prediction that was shown, null if none was
        pa.field("comment", pa.string()),  # what the person wrote beside the answer
        pa.field("supersedes", pa.string()),  # label_id of the state before this one of the same annotation
    ]
)

# Consensus: append-only; of an item and a task that row stands which no other supersedes.
CONSENSUS = pa.schema(
    [
        pa.field("consensus_id", pa.string(), nullable=False),
        pa.field("job", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("operator", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),  # settled | asking | disputed | unsure | adjudicated
        pa.field("answer", pa.string(), nullable=False),  # JSON, as a label's value
        pa.field("posterior", pa.float64(), nullable=False),
        pa.field("people_answer", pa.string(), nullable=False),  # the same without what the model says: what may
        pa.field("people_posterior", pa.float64(), nullable=False),  # measure that model
        pa.field("agreed", pa.bool_(), nullable=False),
        pa.field("votes", pa.int32(), nullable=False),
        pa.field("wanted", pa.int32(), nullable=False),  # how many people are to have answered
        pa.field("method", pa.string(), nullable=False),
        pa.field("annotators", pa.list_(pa.string()), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),  # label_id of each vote, likewise
        pa.field("supersedes", pa.string()),  # consensus_id of the row that stood before
        pa.field("formed_at", UTC_US, nullable=False),
    ]
)


def prediction_type(fields: Sequence[pa.Field]) -> pa.StructType:
    """The struct of a task whose operator adds `fields`."""
    return pa.struct([*PREDICTION_COMMON, *fields])


def result_schema(tasks: Mapping[str, Sequence[pa.Field]]) -> pa.Schema:
    """The schema of a run's rows: the common columns, then a nullable struct per task, in the spec's order."""
    return pa.schema([*RESULT_COMMON, *(pa.field(name, prediction_type(own)) for name, own in tasks.items())])


MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif",
     "bmp": "image/bmp", "tif": "image/tiff", "tiff": "image/tiff", "avif": "image/avif"}
)  # fmt: skip
IMAGE_SUFFIXES = tuple(MEDIA_TYPES)
