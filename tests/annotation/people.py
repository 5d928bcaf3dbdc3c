"""What do people do in Label Studio? Answer, change and delete through its API, and look at what stands there."""

from typing import Any

import httpx

from winnow_jobs.demo.label_studio_server import LabelStudioServer


class Person:
    """The server's user."""

    def __init__(self, server: LabelStudioServer) -> None:
        self._url = server.url
        answer = httpx.post(f"{self._url}/api/token/refresh/", json={"refresh": server.token})
        self._headers = {"Authorization": f"Bearer {answer.json()['access']}"}

    def choose(self, task_id: int, label: str, **fields: Any) -> int:
        """Answer a classification task; the id of the annotation."""
        body = {"result": choice(label), "lead_time": 2.5, **fields}
        return int(self.ask("POST", f"/api/tasks/{task_id}/annotations/", body)["id"])

    def change(self, annotation_id: int, label: str) -> None:
        self.ask("PATCH", f"/api/annotations/{annotation_id}/", {"result": choice(label)})

    def delete(self, annotation_id: int) -> None:
        self.ask("DELETE", f"/api/annotations/{annotation_id}/")

    def tasks(self, project_id: int) -> list[dict[str, Any]]:
        query = f"/api/tasks/?project={project_id}&page_size=1000&fields=all"
        return list(self.ask("GET", query)["tasks"]) if self.count(project_id) else []

    def count(self, project_id: int) -> int:
        return int(self.ask("GET", f"/api/projects/{project_id}/")["task_number"])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = httpx.request(method, f"{self._url}{path}", json=body, headers=self._headers, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None


def choice(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}]
