"""`winnow listen`: people's answers as they are given."""

import os
import secrets
from typing import Annotated

import typer

from winnow_jobs.commands.options import AsJson, SpecPath
from winnow_jobs.listen import SHORTEST_SECRET, Listening
from winnow_jobs.listen import listen as listen_to
from winnow_jobs.machine import ledger_of
from winnow_jobs.render import Screen
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.uri import parse

SECRET_VARIABLE = "WINNOW_WEBHOOK_SECRET"  # noqa: S105  (a name, not a secret)


def listen(
    spec: SpecPath,
    *,
    at: Annotated[str, typer.Option(help="ADDRESS:PORT to take webhooks at.")] = "127.0.0.1:8790",
    url: Annotated[
        str | None, typer.Option(help="How Label Studio reaches that, if otherwise.", show_default=False)
    ] = None,
    every: Annotated[float, typer.Option(min=1, help="Seconds between pulls that nobody asked for.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Pull people's answers as they are given, until Ctrl-C: at Label Studio's webhooks, and every so often.

    The webhooks are set by this command, with the secret of $WINNOW_WEBHOOK_SECRET, or else one made at each start.
    """
    resolved = resolve_spec(load_spec(spec))
    runs, ledger = Runs(open_store(parse(resolved.output))), ledger_of(resolved.ledger)
    screen = Screen(as_json=as_json)
    how = Listening(_address(at), _secret(), url, every)
    with screen.listening() as listener:
        listen_to(resolved, runs, ledger, listener, how=how)


def _address(at: str) -> tuple[str, int]:
    host, _, port = at.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--at {at!r} is no address", hint="write ADDRESS:PORT, such as 127.0.0.1:8790")
    return host.strip("[]"), int(port)


def _secret() -> str:
    given = os.environ.get(SECRET_VARIABLE) or secrets.token_urlsafe(32)
    if len(given) < SHORTEST_SECRET or not given.isascii() or not given.isprintable():
        raise UsageError(
            f"{SECRET_VARIABLE} is no secret: it needs {SHORTEST_SECRET} characters or more, all printable ASCII",
            hint=f"export {SECRET_VARIABLE}=$(openssl rand -hex 24), or unset it: one is made at each start",
        )
    return given
