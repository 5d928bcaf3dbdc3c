"""`winnow search`: which images are like this one?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from winnow_jobs.commands.options import AsJson
from winnow_jobs.render import Screen
from winnow_jobs.runs import Runs
from winnow_jobs.similar.query import Query, of_image, of_item, of_text
from winnow_jobs.similar.space import Space, current_space
from winnow_jobs.spec_source import load_spec
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.neighbours import Neighbours, nearest
from winnow_storage.uri import parse
from winnow_storage.vector_index import ensure_index

SpecOrNone = Annotated[Path | None, typer.Argument(metavar="SPEC", help="The job spec.", show_default=False)]
Output = Annotated[str | None, typer.Option(help="The job's output, in place of a spec.", show_default=False)]
Task = Annotated[
    str | None, typer.Option(help="Whose vectors; not needed if one task only has some.", show_default=False)
]


def search(
    spec: SpecOrNone = None,
    *,
    image: Annotated[
        str | None, typer.Option(help="An image file, or the URI of one, of any place.", show_default=False)
    ] = None,
    item: Annotated[
        str | None, typer.Option(help="An item of the corpus: its key, item_id or uri.", show_default=False)
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="What should be seen, in words; of images that a CLIP or SigLIP pair embedded.", show_default=False
        ),
    ] = None,
    task: Task = None,
    count: Annotated[int, typer.Option("-k", "--count", min=1, max=10_000, help="How many to find.")] = 10,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate/--exact", help="Look through an index (built if needed) rather than at every vector."
        ),
    ] = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Find the images that are most like one, or like what a text says, by the current embeddings of a job.

    The score is the cosine of two vectors, 1 for the same. An image from elsewhere is embedded by the model that made
    the rows, whatever the spec says now.
    """
    screen = Screen(as_json=as_json)
    if sum(one is not None for one in (image, item, text)) != 1:
        raise UsageError(
            "winnow search takes --image, --item or --text, one of them",
            hint="winnow search job.yaml --item photos/cat.jpg",
        )
    space = current_space(runs_of(spec, output, "search"), task)
    say_left_out(screen, space)
    query = _query(space, image, item, text)
    found, built = _look(screen, space, query, count, approximate=approximate)
    record = {
        **about(space),
        "query": query.what,
        "method": "approximate" if approximate else "exact",
        "vectors": found.among,
        "indexed_now": built,
        "results": [
            {"rank": rank, "score": float(score), **row}
            for rank, (row, score) in enumerate(zip(found.rows.to_pylist(), found.scores, strict=True), 1)
        ],
    }
    if not screen.record(record):
        _show(screen, record)


def _query(space: Space, image: str | None, item: str | None, text: str | None) -> Query:
    if item is not None:
        return of_item(space, item)
    return of_image(space, image) if image is not None else of_text(space, text or "")


def runs_of(spec: Path | None, output: str | None, command: str) -> Runs:
    """The runs of a job, named by its spec or its output.

    Raises:
        UsageError: both are given, or neither.
    """
    if spec is not None and output is None:
        source = load_spec(spec)
        return Runs(open_store(parse(source.spec.output.uri, base=source.base)))
    if output is not None and spec is None:
        return Runs(open_store(parse(output)))
    raise UsageError(
        f"winnow {command} takes a job spec or --output, one of them",
        hint=f"winnow {command} job.yaml, or winnow {command} --output URI-OF-THE-OUTPUT",
    )


def about(space: Space) -> dict[str, Any]:
    """What is said of a space in every record."""
    return {
        "job": space.plan.spec.job,
        "task": space.task.name,
        "operator": space.task.operator,
        "model": space.task.model.name,
        "model_digest": space.task.model.digest,
        "task_digest": space.task.digest,
        "runs": sorted(space.runs, key=int),
        "left_out": space.others,
    }


def say_left_out(screen: Screen, space: Space) -> None:
    """Warn of vectors that cannot be compared."""
    if space.note is not None:
        screen.note(space.note, warning=True)


def _look(
    screen: Screen, space: Space, query: Query, count: int, *, approximate: bool
) -> tuple[Neighbours, int | None]:
    if not approximate:
        return nearest(space.vectors, query.vector[None], count, leave_out=query.leave_out)[0], None

    def told(done: int) -> None:
        if screen.err.is_terminal:
            screen.note(f"index: {done:,} vectors")

    index = ensure_index(space.place, space.vectors, space.view_digest, listener=told)
    if index.built:
        screen.note(f"indexed {counted(index.built, 'vector')} below {space.store.store.root}/{space.place.key('')}")
    return index.nearest(query.vector[None], count, leave_out=query.leave_out)[0], index.built


def _show(screen: Screen, record: dict[str, Any]) -> None:
    query = record["query"]
    what = query.get("item") or query.get("image") or repr(query.get("text"))
    screen.say(
        f"nearest to {what} by {record['task']} ({record['model']}), {record['method']}, "
        f"among {counted(record['vectors'], 'vector')}"
    )
    rows = [
        [str(one["rank"]), f"{one['score']:.4f}", one["key"], _size(one), one["run_id"]] for one in record["results"]
    ]
    screen.table("", ["", "score", "key", "px", "run"], rows)


def _size(row: dict[str, Any]) -> str:
    return f"{row['width']} x {row['height']}" if row["width"] is not None and row["height"] is not None else ""
