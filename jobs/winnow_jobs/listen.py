"""How do answers come in as they are given? Webhooks say when to pull, and a clock says it where they are lost."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from winnow_annotation.tasks import adjudication_queue
from winnow_jobs.events import Listener, Note
from winnow_jobs.hints import Hints, hint_server
from winnow_jobs.people import client_of, pull_labels
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.runs import Runs
from winnow_jobs.words import counted
from winnow_storage.errors import EnvironmentFault
from winnow_storage.ledger import Ledger

if TYPE_CHECKING:
    from winnow_annotation.pull import PullSummary

SHORTEST_SECRET = 16  # characters
_GATHER_S = 0.5  # people answer in bursts; also how much a flood of hints can make us ask of Label Studio
_AGAIN_S = 5.0  # after a fault outside


@dataclass(frozen=True, slots=True)
class Listening:
    """Where hints are taken and how Label Studio reaches that (`url`; None: under the same address), and how often a
    pull comes about without any.
    """

    address: tuple[str, int]
    secret: str
    url: str | None = None
    every_s: float = 60.0


def listen(
    spec: ResolvedSpec,
    runs: Runs,
    ledger: Ledger,
    listener: Listener,
    *,
    how: Listening,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Pull at once, at every hint and every so often, while it `goes_on`. Faults outside are said and waited out.

    Raises:
        UsageError: the spec names no Label Studio, or the address cannot be taken.
    """
    from winnow_annotation.webhooks import SECRET_HEADER

    client_of(spec)  # touches nothing: what is wrong with the spec is said before anything is listened to
    with hint_server(how.address, header=SECRET_HEADER, secret=how.secret) as (hints, port):
        host = f"[{how.address[0]}]" if ":" in how.address[0] else how.address[0]
        url = how.url or f"http://{host}:{port}/"
        listener(Note(f"listening at {host}:{port}; Label Studio's webhooks are set to {url}"))
        told: set[int] = set()
        while goes_on():
            try:
                pulled = _pull(spec, runs, ledger, url, how.secret, told)
            except EnvironmentFault as error:
                listener(Note(f"{error.message}; again in {_AGAIN_S:.0f} s", warning=True))
                hints.wait(_AGAIN_S)
                continue
            if pulled.new or pulled.changed or pulled.gone:
                new = counted(pulled.new, "new label")
                listener(Note(f"{new}, {pulled.changed:,} changed, {pulled.gone:,} deleted"))
            _wait(hints, how.every_s)


def _wait(hints: Hints, at_most_s: float) -> None:
    if hints.wait(at_most_s):
        time.sleep(_GATHER_S)


def _pull(spec: ResolvedSpec, runs: Runs, ledger: Ledger, url: str, secret: str, told: set[int]) -> "PullSummary":
    """Also of projects that a push made since; `told` has those whose webhook is set."""
    from winnow_annotation.webhooks import ensure_webhook

    client = client_of(spec)
    for task in spec.tasks:
        for queue in (task.name, adjudication_queue(task.name)):
            project = ledger.project(client.url, spec.job, queue)
            if project is not None and project.project_id not in told:
                ensure_webhook(client, project.project_id, url, secret)
                told.add(project.project_id)
    return pull_labels(spec, runs, ledger)
