"""How do review tasks reach Label Studio, each exactly once? A project for each task, images that open, an outbox.

What `outbox` promises holds for the pushes of one ledger. Where a ledger was lost, or two ledgers push one job, what
the server has is looked up before anything is sent, and copies that came about all the same are swept.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from winnow_annotation.images import Render, image_reference, image_sources, showable_uri
from winnow_annotation.instructions import instructions
from winnow_annotation.label_set import Labels
from winnow_annotation.label_studio import LabelStudioClient
from winnow_annotation.label_studio_records import Project
from winnow_annotation.labelling_config import config_hash, labelling_config
from winnow_annotation.outbox import Outbox
from winnow_annotation.tasks import Picture, PushItem
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing, SpecError
from winnow_storage.ledger import Ledger
from winnow_storage.records import LabelStudioProject, PushState


@dataclass(frozen=True, slots=True)
class Asking:
    """How people are asked, by task: how many answer each review task (one), until more are asked for; the instructions
    that they read instead of those that its interface has; and the name of the project that it shares with others.
    """

    overlaps: Mapping[str, int] = field(default_factory=dict)
    instructions: Mapping[str, str] = field(default_factory=dict)
    projects: Mapping[str, str] = field(default_factory=dict)

    def name(self, queue: str) -> str:
        """Of a queue's project, below the job's name; its own if it shares none."""
        return self.projects.get(queue, queue)

    def is_shared(self, queue: str) -> bool:
        """Whether other tasks go to the same project."""
        return sum(self.name(one) == self.name(queue) for one in {*self.overlaps, *self.projects}) > 1


BY_DEFAULT = Asking()


@dataclass(frozen=True, slots=True)
class PushSummary:
    """Of the items given: `sent` now, `already` there before or deleted by people. `swept`: copies removed."""

    sent: int
    already: int
    swept: int


def push(
    client: LabelStudioClient,
    ledger: Ledger,
    items: Sequence[PushItem],
    *,
    output: BlobStore,
    labels: Mapping[str, Labels],
    render: Render,
    asking: Asking = BY_DEFAULT,
) -> PushSummary:
    """Send what is not there yet, most urgent first as given; `labels` has the label set of each task that needs one.

    `render` makes a JPEG of an image that browsers do not open as it is; a neighbour of which it says BlobMissing is
    left out.

    Raises:
        SpecError: a task that people cannot answer, or images that Label Studio could not show.
        LabelStudioError: unreachable or refusing; what was sent is known, and the same call goes on.
        StoreError, LedgerError: as their rooms say.
    """
    ledger.add_review_tasks([item.pending(output.root.uri) for item in items])
    sent = swept = 0
    for queue in dict.fromkeys(item.queue for item in items):
        own = [item for item in items if item.queue == queue]
        project = _project(client, ledger, own[0], labels.get(own[0].task, ()), asking)
        outbox = Outbox(client, ledger, output.root.uri, project.project_id)
        outbox.settle()
        todo = _not_pushed(ledger, own, output, project.project_id)
        there = outbox.adopt(todo)
        todo = [item for item in todo if item.dedupe_key not in there]
        sent += outbox.send(todo, _images(client, todo, output, project.project_id, render=render))
        swept += outbox.sweep()
    return PushSummary(sent, len(items) - sent, swept)


def _project(
    client: LabelStudioClient, ledger: Ledger, item: PushItem, labels: Labels, asking: Asking
) -> LabelStudioProject:
    """The project of an item's task: the one in the ledger if the server still has it, with the right interface."""
    config = labelling_config(item.operator, labels)
    decides = item.queue != item.task
    overlap = 1 if decides else asking.overlaps.get(item.task, 1)  # one adjudicator decides
    own = asking.instructions.get(item.task)
    told = instructions(item.operator, labels, own=own, decides=decides)
    known = ledger.project(client.url, item.job, item.queue)
    served = None if known is None else client.project(known.project_id)
    if known is not None and served is not None:
        if served.overlap < overlap:  # a person may have set more in Label Studio: theirs stays
            client.change_overlap(known.project_id, overlap)
        if own is not None and served.instructions != told:
            client.change_instructions(known.project_id, told)
        if known.config_hash == config_hash(config):
            return known  # a person may have refined the interface since: theirs stays
        client.change_config(served.id, config)
    else:
        served = _ensured(client, item, config, told, asking)
        if own is not None:
            client.change_instructions(served.id, told)
        if served.overlap < overlap:
            client.change_overlap(served.id, overlap)
    project = LabelStudioProject(client.url, item.job, item.queue, served.id, config_hash(config))
    standing = ledger.save_project(project, instead_of=None if known is None else known.project_id)
    if standing.project_id == served.id:
        return standing
    if served.is_new:
        client.remove_empty(served.id)
    return _project(client, ledger, item, labels, asking)  # another push was faster: theirs is everybody's


def _ensured(client: LabelStudioClient, item: PushItem, config: str, told: str, asking: Asking) -> Project:
    """The project of that title, with this interface."""
    name = asking.name(item.queue)
    served = client.ensure_project(f"{item.job} / {name}", config, instructions=told)
    if served.config != config and asking.is_shared(item.queue):
        raise SpecError(
            f"task {item.task} asks people something else than the project {name!r} that it shares",
            hint="tasks of one interface share one: give it a name of its own in review.label_studio.projects",
        )
    if served.config != config:
        client.change_config(served.id, config)
    return served


def _not_pushed(ledger: Ledger, items: Sequence[PushItem], output: BlobStore, project_id: int) -> list[PushItem]:
    there = set(ledger.pushed_ids(output.root.uri, project_id))
    there |= {row.dedupe_key for row in ledger.review_tasks(output=output.root.uri, states=[PushState.DELETED])}
    return [item for item in items if item.dedupe_key not in there]


def _images(
    client: LabelStudioClient, items: Sequence[PushItem], output: BlobStore, project_id: int, *, render: Render
) -> Mapping[Picture, str]:
    """The reference of each picture, after the project was allowed to show them."""
    root = client.document_root
    shown = {
        one: showable_uri(*one, output=output, render=render) for one in dict.fromkeys(item.picture for item in items)
    }
    for one in dict.fromkeys(picture for item in items for picture in item.neighbour_pictures):
        with suppress(BlobMissing):
            shown[one] = showable_uri(*one, output=output, render=render)
    copies = [uri for (original, *_), uri in shown.items() if uri != original]
    kept = [uri for (original, *_), uri in shown.items() if uri == original]
    for uris in (kept, copies):  # apart: what both have in common may be a folder with much else in it
        sources = image_sources(uris, document_root=root)
        for folder in sources.folders:
            client.ensure_folder(project_id, folder)
        for bucket in sources.buckets:
            client.ensure_bucket(project_id, bucket)
    return {one: image_reference(uri, document_root=root) for one, uri in shown.items()}
