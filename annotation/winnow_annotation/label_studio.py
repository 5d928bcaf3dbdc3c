"""How is Label Studio spoken to? The only user of its SDK: few calls, no silent retries, one kind of error."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from winnow_annotation.policies import LabelStudioSpec, S3Images, resolve_secret
from winnow_storage.errors import LabelStudioError

_TIMEOUT_S = 60.0
_IMPORT_TIMEOUT_S = 600.0  # an import is one transaction that the server answers when it is done
_PAGE = 200
_MAX_TITLE = 50
_LOGIN_HINT = (
    "make a token in Label Studio under Account & Settings > Personal Access Token and export it as the variable that "
    "review.label_studio.token names (legacy tokens are off by default)"
)
_SERVER_HINT = "read Label Studio's log, then run the same command again: nothing is sent twice"


@dataclass(frozen=True, slots=True)
class Project:
    """A project as the server has it; `overlap` is how many people answer a task at first."""

    id: int
    config: str
    overlap: int = 1


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task that stands in a project, how many answers it has, and how many people are to answer it."""

    id: int
    annotations: int
    overlap: int = 1


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
            http = httpx.Client(timeout=_TIMEOUT_S, limits=httpx.Limits(max_keepalive_connections=0))
            # the SDK would repeat a POST after a 5xx or a broken connection, and so store tasks twice
            self._sdk = LabelStudio(
                base_url=self.url, api_key=token, httpx_client=http, timeout=_TIMEOUT_S, max_retries=0
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

    def ensure_project(self, title: str, config: str) -> Project:
        """The oldest project of that title (cut to what Label Studio allows), made if there is none."""
        title = title if len(title) <= _MAX_TITLE else f"{title[: _MAX_TITLE - 1]}…"
        with self._asking(f"make the project {title!r}"):
            same = [found for found in self._sdk.projects.list(title=title) if found.title == title]
            if same:
                oldest = min(same, key=lambda found: int(found.id))
                return _project(oldest)
            made = self._sdk.projects.create(title=title, label_config=config, description="Filled by winnow push")
            return _project(made)

    def change_config(self, project_id: int, config: str) -> None:
        """Give a project another interface, if the server says that the answers it holds still fit."""
        with self._asking(f"change the interface of project {project_id}"):
            self._sdk.projects.validate_label_config(project_id, label_config=config)
            self._sdk.projects.update(project_id, label_config=config)

    def change_overlap(self, project_id: int, overlap: int) -> None:
        """Let so many people answer each task of the project, those that stand in it included."""
        with self._asking(f"change how many people answer the tasks of project {project_id}"):
            self._sdk.projects.update(project_id, maximum_annotations=overlap)

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

    def find_tasks(self, project_id: int, dedupe_keys: Sequence[str]) -> dict[str, list[FoundTask]]:
        """The tasks that carry one of the keys, by key, lowest id first. Keys without a task are absent."""
        found: dict[str, list[FoundTask]] = {}
        for start in range(0, len(dedupe_keys), _PAGE):
            wanted = list(dedupe_keys[start : start + _PAGE])
            with self._asking(f"look for tasks in project {project_id}"):
                for task in self._tasks_with(project_id, wanted):
                    found.setdefault(task["data"]["dedupe_key"], []).append(
                        FoundTask(int(task["id"]), int(task["total_annotations"] or 0), int(task.get("overlap") or 1))
                    )
        return {key: sorted(tasks, key=lambda task: task.id) for key, tasks in found.items()}

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """The ids of the tasks made, in order. After an error it is unknown whether the server has them."""
        with self._asking(f"import {len(tasks)} tasks into project {project_id}"):
            answer = self._sdk.projects.import_tasks(
                project_id,
                request=list(tasks),
                return_task_ids=True,
                request_options={"timeout_in_seconds": _IMPORT_TIMEOUT_S, "max_retries": 0},
            )
        ids = [int(one) for one in answer.task_ids or []]
        if len(ids) != len(tasks):
            raise LabelStudioError(f"Label Studio imported {len(ids)} tasks of {len(tasks)}", hint=_SERVER_HINT)
        return ids

    def last_update(self, project_id: int) -> datetime | None:
        """When a task of the project last changed, by the server's clock; None if it has none."""
        query = json.dumps({"ordering": ["-tasks:updated_at"]})
        with self._asking(f"read the tasks of project {project_id}"):
            for task in self._sdk.tasks.list(project=project_id, query=query, page=1, page_size=1, fields="task_only"):
                return instant(task.model_dump(mode="json")["updated_at"])
        return None

    def changed_tasks(self, project_id: int, since: datetime | None) -> Iterator[dict[str, Any]]:
        """Tasks with their annotations and predictions that changed after `since`, by id.

        By id and not by time, so that a task that changes while pages are read does not push another one past a
        page's end.
        """
        query: dict[str, Any] = {"ordering": ["tasks:id"]}
        if since is not None:
            later = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime"}
            later["value"] = since.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            query["filters"] = {"conjunction": "and", "items": [later]}
        with self._asking(f"read the tasks of project {project_id}"):
            pages = self._sdk.tasks.list(
                project=project_id, query=json.dumps(query), page_size=_PAGE, fields="all", resolve_uri=False
            )
            for task in pages:
                yield task.model_dump(mode="json")

    def emails(self) -> dict[int, str]:
        """The e-mail of every user, by id."""
        with self._asking("list its users"):
            return {int(user.id): str(user.email) for user in self._sdk.users.list()}

    def delete_task(self, task_id: int) -> None:
        """Remove a task with everything in it."""
        with self._asking(f"delete task {task_id}"):
            self._sdk.tasks.delete(str(task_id))

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

    def _tasks_with(self, project_id: int, dedupe_keys: list[str]) -> Iterator[dict[str, Any]]:
        """Looked up through a temporary view: the keys would not fit into a URL."""
        wanted = {"filter": "filter:tasks:data.dedupe_key", "operator": "in_list", "type": "String"}
        filters = {"conjunction": "and", "items": [{**wanted, "value": dedupe_keys}]}
        view = self._sdk.views.create(project=project_id, data={"title": "winnow push", "filters": filters})
        try:
            pages = self._sdk.tasks.list(
                project=project_id,
                view=view.id,
                page_size=_PAGE,
                fields="task_only",
                include="id,data,total_annotations,overlap",
                resolve_uri=False,
            )
            for task in pages:
                yield task.model_dump(mode="json")
        finally:
            self._sdk.views.delete(id=str(view.id))

    @contextmanager
    def _asking(self, what: str, *, hint: str | None = None) -> Iterator[None]:
        try:
            yield
        except ApiError as error:
            raise _refusal(self.url, what, error, hint) from error
        except httpx.HTTPError as error:
            raise LabelStudioError(
                f"Label Studio at {self.url} did not answer (to {what}): {error or type(error).__name__}",
                hint="start it, or correct review.label_studio.url; then run the same command again",
            ) from error


def _project(found: Any) -> Project:
    return Project(int(found.id), str(found.label_config), int(found.maximum_annotations or 1))


def instant(text: str) -> datetime:
    """A time as the server writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _covers(known: str, folder: str) -> bool:
    return folder == known or folder.startswith(known.rstrip("/") + "/")


def _refusal(url: str, what: str, error: ApiError, hint: str | None) -> LabelStudioError:
    status = error.status_code
    if status in (401, 403):
        return LabelStudioError(f"Label Studio at {url} does not accept the token (to {what})", hint=_LOGIN_HINT)
    if status is None or status >= 500:
        return LabelStudioError(f"Label Studio at {url} failed with {status} (to {what})", hint=hint or _SERVER_HINT)
    return LabelStudioError(f"Label Studio at {url} refused to {what}: {status} {_detail(error.body)}", hint=hint)


def _detail(body: Any) -> str:
    if not isinstance(body, Mapping):
        return str(body)[:300]
    return str(body.get("validation_errors") or body.get("detail") or dict(body))[:300]
