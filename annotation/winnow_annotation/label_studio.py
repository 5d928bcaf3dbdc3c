"""How is Label Studio spoken to? The only user of its SDK: few calls, no silent retries, one kind of error."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from winnow_annotation.label_studio_records import FoundTask, Project, Standing
from winnow_annotation.policies import LabelStudioSpec, S3Images, resolve_secret
from winnow_storage.errors import LabelStudioError, LabelStudioRefused

_TIMEOUT_S = 60.0
_IMPORT_TIMEOUT_S = 600.0  # an import is one transaction that the server answers when it is done
_PAGE = 200  # tasks with everything in them
_LONG_PAGE = 1000  # tasks with little more than their ids
_KEYS = 100  # of one look-up: they stand in its URL, of which a proxy takes 8 KiB
_MANY_KEYS = 1000  # from so many on, reading the keys of the whole project is cheaper
_MAX_TITLE = 50
_LATE = (408, 409, 425, 429)  # a gateway's words for "not now", which say nothing about what the server did
_LOGIN_HINT = (
    "make a token in Label Studio under Account & Settings > Personal Access Token and export it as the variable that "
    "review.label_studio.token names (legacy tokens are off by default)"
)
_SERVER_HINT = "read Label Studio's log, then run the same command again: nothing is sent twice"


@dataclass(frozen=True, slots=True)
class S3Access:
    """`policies.S3Images` with its secrets."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    presign: bool = False


def connect(spec: LabelStudioSpec, environ: Mapping[str, str]) -> "LabelStudioClient":
    """The client that a spec means; touches nothing yet.

    Raises:
        SpecError: a variable that the spec names is not set.
    """
    token = resolve_secret(spec.token, environ)
    return LabelStudioClient(spec.url, token, document_root=spec.document_root, s3=_s3_access(spec.s3, environ))


def _s3_access(images: S3Images, environ: Mapping[str, str]) -> S3Access:
    """Endpoint and region default to ours (the usual AWS variables): most often both sides reach the same store."""
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    key, secret = images.access_key_id, images.secret_access_key
    return S3Access(
        endpoint_url=images.endpoint_url or endpoint,
        region=images.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),
        access_key_id=None if key is None else resolve_secret(key, environ),
        secret_access_key=None if secret is None else resolve_secret(secret, environ),
        presign=images.presign,
    )


class LabelStudioClient:
    """One server and one user. Every method raises LabelStudioError if the server is unreachable or refuses.

    `token` is a personal access token (exchanged for short-lived ones as needed) or a legacy one.
    """

    def __init__(self, url: str, token: str, *, document_root: str = "/", s3: S3Access | None = None) -> None:
        self.url = url.rstrip("/")
        self.document_root = document_root
        self._s3 = s3 or S3Access()
        with self._asking("use the token"):
            # no connection is kept, so nothing has to be closed
            self._http = httpx.Client(timeout=_TIMEOUT_S, limits=httpx.Limits(max_keepalive_connections=0))
            # the SDK would repeat a POST after a 5xx or a broken connection, and so store tasks twice
            self._sdk = LabelStudio(
                base_url=self.url, api_key=token, httpx_client=self._http, timeout=_TIMEOUT_S, max_retries=0
            )

    def whoami(self) -> str:
        """The e-mail of the user that the token belongs to."""
        with self._asking("log in"):
            return str(self._sdk.users.whoami().email)

    def project(self, project_id: int) -> Project | None:
        """None if there is no such project (any more)."""
        with self._asking(f"read project {project_id}"):
            try:
                found = self._sdk.projects.get(project_id)
            except ApiError as error:
                if error.status_code == 404:
                    return None
                raise
            return _project(found)

    def ensure_project(self, title: str, config: str, *, instructions: str = "") -> Project:
        """The oldest project of that title (cut to what is allowed), with tasks if any has; made if there is none.

        People read the instructions when they ask for them. On SQLite Label Studio may leave an empty one beside it
        where two are made at once.
        """
        title = title if len(title) <= _MAX_TITLE else f"{title[: _MAX_TITLE - 1]}…"
        with self._asking(f"make the project {title!r}"):
            same = [found for found in self._sdk.projects.list(title=title) if found.title == title]
            if same:
                oldest = min(same, key=lambda found: (not found.task_number, int(found.id)))
                return _project(oldest)
            made = self._sdk.projects.create(
                title=title, label_config=config, expert_instruction=instructions, description="Filled by winnow push"
            )
            return replace(_project(made), is_new=True)

    def remove_empty(self, project_id: int) -> None:
        """Take away a project that this user made, unless tasks stand in it."""
        with self._asking(f"remove the empty project {project_id}"):
            if not self._sdk.projects.get(project_id).task_number:
                self._sdk.projects.delete(project_id)

    def change_config(self, project_id: int, config: str) -> None:
        """Give a project another interface, if the server says that the answers it holds still fit."""
        with self._asking(f"change the interface of project {project_id}"):
            self._sdk.projects.validate_label_config(project_id, label_config=config)
            self._sdk.projects.update(project_id, label_config=config)

    def change_overlap(self, project_id: int, overlap: int) -> None:
        """Let so many people answer each task of the project, those that stand in it included."""
        with self._asking(f"change how many people answer the tasks of project {project_id}"):
            self._sdk.projects.update(project_id, maximum_annotations=overlap)

    def change_instructions(self, project_id: int, instructions: str) -> None:
        """Show people this before they begin, and whenever they ask for it."""
        with self._asking(f"change the instructions of project {project_id}"):
            self._sdk.projects.update(project_id, expert_instruction=instructions, show_instruction=True)

    def raise_overlaps(self, project_id: int, wanted: Mapping[str, int]) -> int:
        """Let that many people answer the tasks with these dedupe_keys, where it is fewer now; how many that were.

        A task that enough people had answered is served again, to those who have not answered it.
        """
        changed = 0
        for key, tasks in self.find_tasks(project_id, list(wanted)).items():
            for task in tasks[:1]:
                if task.overlap >= wanted[key]:
                    continue
                with self._asking(f"put task {task.id} before another person"):
                    self._sdk.tasks.update(
                        str(task.id), overlap=wanted[key], is_labeled=task.annotations >= wanted[key]
                    )
                changed += 1
        return changed

    def find_tasks(self, project_id: int, dedupe_keys: Collection[str]) -> dict[str, list[FoundTask]]:
        """The tasks that carry one of the keys, by key, lowest id first. Keys without a task are absent."""
        wanted = list(dict.fromkeys(dedupe_keys))
        if len(wanted) > _MANY_KEYS:
            every, chosen = self.all_tasks(project_id), set(wanted)
            return {key: tasks for key, tasks in every.items() if key in chosen}
        found: dict[str, list[FoundTask]] = {}
        for start in range(0, len(wanted), _KEYS):
            keys = {"filter": _BY_KEY, "operator": "in_list", "type": "String", "value": wanted[start : start + _KEYS]}
            _collect(self._listed(project_id, [keys], include=_STATE), found)
        return found

    def all_tasks(self, project_id: int) -> dict[str, list[FoundTask]]:
        """Every task of the project that carries a dedupe_key, by key, lowest id first."""
        found: dict[str, list[FoundTask]] = {}
        _collect(self._listed(project_id, [_WITH_KEY], include=_STATE), found)
        return found

    def standing(self, project_id: int) -> Standing:
        """What stands in the project, in one short request."""
        query = {"ordering": ["-tasks:id"], "filters": {"conjunction": "and", "items": [_WITH_KEY]}}
        page = self._page(project_id, query, include="id", size=1)
        newest = next((int(task["id"]) for task in page["tasks"]), None)
        return Standing(int(page["total"]), newest, int(page["total_annotations"]))

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """The ids of the tasks made, in order. After an error it is unknown whether the server has them.

        Raises:
            LabelStudioRefused: it has none of them.
        """
        path = f"/api/projects/{project_id}/import"
        what = f"import {len(tasks)} tasks into project {project_id}"
        answer = self.ask(what, "POST", path, params={"return_task_ids": "true"}, body=list(tasks))
        ids = [int(one) for one in answer.get("task_ids") or []]
        if len(ids) != len(tasks):
            raise LabelStudioError(f"Label Studio imported {len(ids)} tasks of {len(tasks)}", hint=_SERVER_HINT)
        return ids

    def last_update(self, project_id: int) -> datetime | None:
        """When a task of the project last changed, by the server's clock; None if it has none."""
        page = self._page(project_id, {"ordering": ["-tasks:updated_at"]}, include="id,updated_at", size=1)
        return next((instant(task["updated_at"]) for task in page["tasks"]), None)

    def changed_tasks(self, project_id: int, since: datetime | None) -> Iterator[dict[str, Any]]:
        """Tasks with their annotations and predictions that changed after `since`, by id."""
        later = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime"}
        filters = [] if since is None else [later | {"value": since.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}]
        yield from self._listed(project_id, filters)

    def task_ids(self, project_id: int) -> set[int]:
        """Of every task of the project that carries a dedupe_key."""
        return {int(task["id"]) for task in self._listed(project_id, [_WITH_KEY], include="id")}

    def emails(self) -> dict[int, str]:
        """The e-mail of every user, by id."""
        with self._asking("list its users"):
            return {int(user.id): str(user.email) for user in self._sdk.users.list()}

    def delete_unanswered(self, project_id: int, task_ids: Sequence[int]) -> int:
        """Remove those of the tasks that nobody has answered, skipped or begun; how many that were.

        The server looks and deletes in one request, so that no answer given meanwhile is lost with its task.
        """
        none = {"operator": "equal", "type": "Number", "value": 0}
        filters = [
            {"filter": f"filter:tasks:{name}", **none} for name in ("total_annotations", "cancelled_annotations")
        ]
        filters += [{"filter": "filter:tasks:draft_exists", "operator": "equal", "type": "Boolean", "value": "false"}]
        if not task_ids:
            return 0  # an empty selection would be all tasks
        body = {
            "filters": {"conjunction": "and", "items": filters},
            "selectedItems": {"all": False, "included": list(task_ids)},
        }
        params = {"id": "delete_tasks", "project": str(project_id)}
        what = f"delete copies of tasks in project {project_id}"
        return int(self.ask(what, "POST", "/api/dm/actions", params=params, body=body)["processed_items"])

    def ensure_folder(self, project_id: int, folder: str) -> None:
        """Allow the project to show images of a folder; it is never synced, so it makes no tasks."""
        hint = (
            "start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={self.document_root}"
        )
        with self._asking(f"allow images from {folder}", hint=hint):
            local = self._sdk.import_storage.local
            if not any(_covers(str(known.path), folder) for known in local.list(project=project_id)):
                local.create(project=project_id, title="images", path=folder, use_blob_urls=True)

    def ensure_bucket(self, project_id: int, bucket: str) -> None:
        """Allow the project to show images of a bucket; it is never synced, so it makes no tasks."""
        hint = (
            "give review.label_studio.s3 credentials (access_key_id, secret_access_key as ${NAME}) and an endpoint_url "
            "that Label Studio reaches; for one on a private network start it with SSRF_PROTECTION_ENABLED=false"
        )
        settings = {
            "s3endpoint": self._s3.endpoint_url,
            "region_name": self._s3.region,
            "aws_access_key_id": self._s3.access_key_id,
            "aws_secret_access_key": self._s3.secret_access_key,
        }
        given = {name: setting for name, setting in settings.items() if setting is not None}
        with self._asking(f"allow images from s3://{bucket}", hint=hint):
            s3 = self._sdk.import_storage.s3
            if not any(known.bucket == bucket for known in s3.list(project=project_id)):
                s3.create(
                    project=project_id,
                    title="images",
                    bucket=bucket,
                    use_blob_urls=True,
                    presign=self._s3.presign,
                    **given,
                )

    def ask(self, what: str, method: str, path: str, *, params: Mapping[str, str] | None = None, **sent: Any) -> Any:
        """What the server says, as JSON, to one request; None if nothing. `sent` is `body` (JSON) or `files` (a form).

        Raises:
            LabelStudioRefused: it says that it will not. LabelStudioError: it may have done it, or not.
        """
        body, files = sent.get("body"), sent.get("files")
        with self._asking(what):
            answer = self._http.request(
                method,
                f"{self.url}{path}",
                params=params,
                json=body,
                files=files,
                headers=self._sdk._client_wrapper.get_headers(),  # noqa: SLF001  (it renews the short-lived token)
                timeout=_TIMEOUT_S if method == "GET" else _IMPORT_TIMEOUT_S,
            )
            if not answer.is_success:
                raise ApiError(status_code=answer.status_code, body=_parsed(answer))
            return _parsed(answer)

    def _listed(
        self, project_id: int, filters: Sequence[Mapping[str, Any]], *, include: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Tasks by id, whole ones where `include` names no columns.

        Each page begins after the last id of the one before, so that a task that is deleted or changes meanwhile
        pushes none past a page's end.
        """
        last, size = 0, _PAGE if include is None else _LONG_PAGE
        while True:
            after = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": last}
            query = {"ordering": ["tasks:id"], "filters": {"conjunction": "and", "items": [*filters, after]}}
            tasks = self._page(project_id, query, include=include, size=size)["tasks"]
            yield from tasks
            if len(tasks) < size:
                return
            last = int(tasks[-1]["id"])

    def _page(self, project_id: int, query: Mapping[str, Any], *, include: str | None, size: int) -> Any:
        params = {"project": str(project_id), "page_size": str(size), "resolve_uri": "false"}
        params |= {"fields": "all"} if include is None else {"fields": "task_only", "include": include}
        params["query"] = json.dumps(query, separators=(",", ":"))
        return self.ask(f"read the tasks of project {project_id}", "GET", "/api/tasks/", params=params)

    @contextmanager
    def _asking(self, what: str, *, hint: str | None = None) -> Iterator[None]:
        try:
            yield
        except ApiError as error:
            raise _refusal(self.url, what, error, hint) from error
        except json.JSONDecodeError as error:  # of the SDK, where a gateway answers in place of the server
            raise LabelStudioError(
                f"Label Studio at {self.url} answered with something else than JSON (to {what})", hint=_SERVER_HINT
            ) from error
        except httpx.HTTPError as error:
            raise LabelStudioError(
                f"Label Studio at {self.url} did not answer (to {what}): {error or type(error).__name__}",
                hint="start it, or correct review.label_studio.url; then run the same command again",
            ) from error


_BY_KEY = "filter:tasks:data.dedupe_key"
_WITH_KEY = {"filter": _BY_KEY, "operator": "empty", "type": "String", "value": "false"}
_STATE = "id,data,total_annotations,cancelled_annotations,overlap"


def _collect(tasks: Iterator[dict[str, Any]], found: dict[str, list[FoundTask]]) -> None:
    for task in tasks:
        answers, skips = (int(task.get(name) or 0) for name in ("total_annotations", "cancelled_annotations"))
        one = FoundTask(int(task["id"]), answers, int(task.get("overlap") or 1), skips)
        found.setdefault(task["data"]["dedupe_key"], []).append(one)


def _parsed(answer: httpx.Response) -> Any:
    """JSON where it is; a gateway answers with pages of its own."""
    try:
        return answer.json() if answer.content else None
    except ValueError as error:
        if answer.is_success:
            raise ApiError(status_code=answer.status_code, body=answer.text) from error
        return answer.text


def _project(found: Any) -> Project:
    said = str(found.expert_instruction or "")
    return Project(int(found.id), str(found.label_config), int(found.maximum_annotations or 1), said)


def instant(text: str) -> datetime:
    """A time as the server writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _covers(known: str, folder: str) -> bool:
    return folder == known or folder.startswith(known.rstrip("/") + "/")


def _refusal(url: str, what: str, error: ApiError, hint: str | None) -> LabelStudioError:
    status = error.status_code
    if status in (401, 403):
        return LabelStudioRefused(f"Label Studio at {url} does not accept the token (to {what})", hint=_LOGIN_HINT)
    if status is None or status >= 500 or status in _LATE:
        return LabelStudioError(f"Label Studio at {url} failed with {status} (to {what})", hint=hint or _SERVER_HINT)
    kind = LabelStudioRefused if status >= 400 else LabelStudioError
    return kind(f"Label Studio at {url} refused to {what}: {status} {_detail(error.body)}", hint=hint)


def _detail(body: Any) -> str:
    if not isinstance(body, Mapping):
        return str(body)[:300]
    return str(body.get("validation_errors") or body.get("detail") or dict(body))[:300]
