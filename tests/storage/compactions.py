"""A compaction of all runs of an output, for tests of those who read it; `winnow compact` itself is in the jobs."""

from winnow_storage import compaction
from winnow_storage.blobs import BlobStore
from winnow_storage.committed import look
from winnow_storage.compaction import FORMAT, Compaction, Cover
from winnow_storage.compaction_writer import PartsWriter
from winnow_storage.current import committed_types, resolve
from winnow_storage.current_types import current_schema


def compact_all(store: BlobStore) -> Compaction:
    """Write `current` and point to it. Windows are added in pieces, so that small row groups are possible."""
    committed = look(store)
    assert committed.newest is not None
    types = committed_types(store, committed.runs)
    number = compaction.claim(store)
    with PartsWriter(store, f"{compaction.folder_of(number)}part", current_schema(types)) as writer:
        for window in resolve(store, committed, types):
            for start in range(0, window.rows.num_rows, 2):
                writer.add(window.rows.slice(start, 2))
        files = writer.finish()
    made = Compaction(
        format=FORMAT,
        number=number,
        job="j",
        created_at="2026-11-20T12:00:00+00:00",
        snapshot_run=committed.newest.run_id,
        base=None,
        files=files,
        left=(),
        rows=sum(part.rows for part in files),
        pending=0,
        gone=0,
        dropped=0,
        covers={run.run_id: Cover(len(run.objects), run.planned, run.plan) for run in committed.runs},
        tasks={},
    )
    return compaction.publish(store, made)
