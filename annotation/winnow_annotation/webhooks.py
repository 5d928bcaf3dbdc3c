"""How does Label Studio tell us that somebody answered? A webhook of each project, with a secret in a header.

Label Studio sends it once, waits a second, signs nothing and keeps no record: whatever depends on it would be lost. It
is a hint to pull, and carries no payload.
"""

from typing import Any

from winnow_annotation.label_studio import LabelStudioClient

SECRET_HEADER = "X-Winnow-Secret"  # noqa: S105  (its name)
_ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_DELETED",
)


def ensure_webhook(client: LabelStudioClient, project_id: int, url: str, secret: str) -> None:
    """Let the project tell `url` of every answer, with this secret; one that does so already stays as it is.

    Raises:
        LabelStudioError: it refuses the address (its guard against private networks), or does not answer.
    """
    wanted: dict[str, Any] = {
        "url": url,
        "project": project_id,
        "send_payload": False,
        "send_for_all_actions": False,
        "is_active": True,
        "headers": {SECRET_HEADER: secret},
        "actions": list(_ACTIONS),
    }
    what = f"set the webhook of project {project_id}"
    found = client.ask(what, "GET", "/api/webhooks/", params={"project": str(project_id)})
    same = [one for one in found if one["url"] == url]
    if not same:
        client.ask(what, "POST", "/api/webhooks/", body=wanted)
    elif any(_said(same[0], name) != _said(wanted, name) for name in wanted):
        client.ask(what, "PATCH", f"/api/webhooks/{same[0]['id']}/", body=wanted)


def _said(webhook: dict[str, Any], name: str) -> Any:
    value = webhook.get(name)
    return sorted(value) if name == "actions" and value else value
