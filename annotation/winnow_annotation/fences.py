"""How is an import stopped for good that may still be on its way? It rests on something that can be taken away.

Label Studio knows no unique key, and an import may commit long after whoever sent it gave up or died. So every task of
an import refers to an uploaded file, the fence, whose only use is to be deleted. Tasks stay when their file is deleted
(the reference becomes null), but from then on the database's foreign key lets no task in that refers to it. Once a
fence is closed, what an import brought can be looked up, and what is not there never will be.

Seen with Label Studio 1.23 on SQLite; its models say the same for PostgreSQL (Task.file_upload, SET_NULL).
"""

import json
import time
from collections.abc import Collection
from typing import Any

from winnow_annotation.label_studio import LabelStudioClient
from winnow_storage.errors import LabelStudioError, LabelStudioRefused

_NAME = "winnow-fence.json"  # Label Studio puts characters of its own before it
_CONTENT = json.dumps([{"data": {"image": "nothing: this file makes no task"}}]).encode()
_TRIES = 3
_PAUSE_S = 0.5


def open_fence(client: LabelStudioClient, project_id: int) -> int:
    """The id of a new one. It makes no task, and one that nobody knows of does no harm."""
    files = {"file": (_NAME, _CONTENT, "application/json")}
    path = f"/api/projects/{project_id}/import"
    given = {"params": {"commit_to_project": "false"}, "files": files}
    (fence,) = _patiently(client, "begin an import", "POST", path, given)["file_upload_ids"]
    return int(fence)


def close_fences(client: LabelStudioClient, project_id: int, fences: Collection[int]) -> None:
    """Let nothing more in that rests on these; those that are closed already may be among them.

    Raises:
        LabelStudioError: it is unknown whether they are closed.
    """
    if not fences:
        return  # no list would mean every file of the project
    path, body = f"/api/projects/{project_id}/file-uploads", {"file_upload_ids": sorted(fences)}
    _patiently(client, "end an import", "DELETE", path, {"body": body})


def open_fences(client: LabelStudioClient, project_id: int) -> list[int]:
    """Those that this user left open in a project."""
    path = f"/api/projects/{project_id}/file-uploads"
    found: list[dict[str, Any]] = client.ask("look for imports that were cut off", "GET", path, params={"all": "true"})
    return [int(one["id"]) for one in found if str(one["file"]).endswith(_NAME)]


def _patiently(client: LabelStudioClient, what: str, method: str, path: str, given: dict[str, Any]) -> Any:
    """Of fences a request may be repeated: one too many does no harm, and closed is closed."""
    for turn in range(_TRIES - 1):
        try:
            return client.ask(what, method, path, **given)
        except LabelStudioRefused:
            raise
        except LabelStudioError:
            time.sleep(_PAUSE_S * 2**turn)
    return client.ask(what, method, path, **given)
