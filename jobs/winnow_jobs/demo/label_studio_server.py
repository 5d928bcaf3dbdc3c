"""How is a private Label Studio started and stopped? Headless, on loopback and SQLite, for the demo and the tests.

The server runs in an environment of its own (its pins conflict with ours) and is talked to over HTTP only.
Everything it keeps is in one folder: its database, its log, and `login.json` with the credentials made for it.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from winnow_storage.errors import LabelStudioError

EMAIL = "annotator@example.org"
START_DEADLINE_S = 300.0  # an empty folder takes 30 to 50 s on two cores (migrations), a used one 3 to 6 s
STOP_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Login:
    """The only user of the server. `token` is a personal access token, which the SDK exchanges for short-lived ones."""

    email: str
    password: str
    legacy_token: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class LabelStudioServer:
    """A running server."""

    url: str
    token: str = field(repr=False)
    email: str
    password: str = field(repr=False)
    log: Path
    pid: int


@contextmanager
def label_studio_server(
    executable: Path,
    data_dir: Path,
    *,
    document_root: Path,
    port: int | None = None,
    allow_private_addresses: bool = False,
) -> Iterator[LabelStudioServer]:
    """Run Label Studio on 127.0.0.1 until the block ends; a folder that was used before is used again.

    `document_root`: local images are served from folders below it (and only from those that a project's storage
    names). `allow_private_addresses`: Label Studio refuses storages and webhooks on loopback and private networks
    unless its SSRF guard is off; needed for a private S3 endpoint, not for folders.

    Raises:
        LabelStudioError: the executable is missing, or the server does not answer in time.
    """
    if not executable.is_file():
        raise LabelStudioError(f"Label Studio is not installed: {executable} does not exist", hint="make setup")
    data_dir.mkdir(parents=True, exist_ok=True)
    port = port or _free_port()
    login = _load_login(data_dir)
    settings = _settings(data_dir, document_root, login, allow_private_addresses=allow_private_addresses)
    log = data_dir / "server.log"
    command = [str(executable), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as stream:
        process = subprocess.Popen(  # noqa: S603  (our own argument list, no shell)
            command, env=settings, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process, log)
        login = _with_access_token(url, login)
        _save_login(data_dir, login)
        yield LabelStudioServer(url, login.token or login.legacy_token, login.email, login.password, log, process.pid)
    finally:
        _stop(process)


def _settings(data_dir: Path, document_root: Path, login: Login, *, allow_private_addresses: bool) -> Mapping[str, str]:
    """The environment of the server: the caller's without what would change it, plus our settings."""
    foreign = ("LABEL_STUDIO_", "HEARTEX_", "PYTHON", "DJANGO_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir),
        "DJANGO_DB": "sqlite",
        "LABEL_STUDIO_USERNAME": login.email,
        "LABEL_STUDIO_PASSWORD": login.password,
        "LABEL_STUDIO_USER_TOKEN": login.legacy_token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",  # heeded only when the database is created
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(document_root),
        "SSRF_PROTECTION_ENABLED": "false" if allow_private_addresses else "true",
        "COLLECT_ANALYTICS": "false",  # these four are what it tells its makers by default
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _load_login(data_dir: Path) -> Login:
    file = data_dir / "login.json"
    if file.is_file():
        return Login(**json.loads(file.read_text()))
    login = Login(EMAIL, secrets.token_urlsafe(12), secrets.token_hex(20))
    _save_login(data_dir, login)
    return login


def _save_login(data_dir: Path, login: Login) -> None:
    file = data_dir / "login.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(login)))


def _wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LabelStudioError(
                f"Label Studio ended while starting (exit code {process.returncode}): {_last_line(log)}",
                hint=f"read {log}",
            )
        try:
            if httpx.get(f"{url}/health", timeout=5, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass  # not listening yet
        time.sleep(0.25)
    raise LabelStudioError(f"Label Studio did not answer within {START_DEADLINE_S:.0f} s", hint=f"read {log}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _with_access_token(url: str, login: Login) -> Login:
    """The login with a personal access token; the server shows one only once, when it is made."""
    if login.token is not None:
        return login
    headers = {"Authorization": f"Token {login.legacy_token}"}
    response = httpx.post(f"{url}/api/token/", headers=headers, timeout=60, trust_env=False)
    body: Any = response.json() if response.is_success else {}
    return replace(login, token=body.get("token"))


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server and everything that it started: all are in the process group made for it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait(STOP_DEADLINE_S)
