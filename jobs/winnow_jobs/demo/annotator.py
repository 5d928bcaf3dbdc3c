"""Who answers in the demo? A script that uses Label Studio's HTTP API as a person's browser does."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq

from winnow_annotation.tasks import COMMENT
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_storage.errors import LabelStudioError

NO_DIGIT = "no digit"
SIGNED = "answered by a script of the demo, which knows the truth"


class ScriptedAnnotator:
    """Says which digit it truly is, if any; of other tasks it confirms what the model proposed. A script, no person."""

    def __init__(self, server: LabelStudioServer, truth: Path) -> None:
        self._server = server
        self._truth = truth
        self._http = httpx.Client(base_url=server.url, timeout=60, trust_env=False)
        self._log_in()

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def forget_projects(self, *prefixes: str) -> None:
        """Delete the projects of an earlier demo."""
        for project in self._projects():
            if project["title"].startswith(prefixes):
                self._ask("DELETE", f"/api/projects/{project['id']}/")

    def answer(self, per_project: int) -> int:
        """Answer the first tasks of every project; how many answers there are."""
        labels = self._digit_labels()
        answered = 0
        for project in self._projects():
            for task in self._tasks(project["id"], per_project)[:per_project]:
                result = self._answer_of(task, labels)
                if result is not None:
                    self._post(task["id"], result)
                    answered += 1
        return answered

    def answer_with(self, labels: Mapping[str, str], *, project: str, purposes: Collection[str]) -> int:
        """Answer with `labels`, by key, what nobody has answered of these purposes in the projects of this title.

        How many answers there are.
        """
        answered = 0
        for one in self._projects():
            if one["title"] != project or not one["task_number"]:
                continue
            for task in self._tasks(one["id"], one["task_number"]):
                if not task["annotations"] and task["data"]["purpose"] in purposes:
                    self._post(task["id"], _choice(labels[task["data"]["key"]]))
                    answered += 1
        return answered

    def _answer_of(self, task: dict[str, Any], labels: dict[str, str]) -> list[dict[str, Any]] | None:
        data = task["data"]
        if data["operator"] == "classify":
            return _choice(labels.get(data["key"], NO_DIGIT))
        predictions = task.get("predictions") or []
        return list(predictions[0]["result"]) if predictions else None

    def _projects(self) -> list[dict[str, Any]]:
        return list(self._get("/api/projects/?page_size=1000")["results"])

    def _tasks(self, project_id: int, count: int) -> list[dict[str, Any]]:
        return list(self._get(f"/api/tasks/?project={project_id}&page_size={count}&fields=all")["tasks"])

    def _post(self, task_id: int, result: list[dict[str, Any]]) -> None:
        self._ask("POST", f"/api/tasks/{task_id}/annotations/", {"result": result, "lead_time": 4.0})

    def _digit_labels(self) -> dict[str, str]:
        rows = pq.read_table(self._truth, columns=["key", "label", "operator"]).to_pylist()
        return {row["key"]: row["label"] for row in rows if row["operator"] == "classify"}

    def _log_in(self) -> None:
        answer = self._http.post("/api/token/refresh/", json={"refresh": self._server.token})
        if answer.is_success:
            self._http.headers["Authorization"] = f"Bearer {answer.json()['access']}"
        else:
            self._http.headers["Authorization"] = f"Token {self._server.token}"

    def _get(self, path: str) -> Any:
        return self._ask("GET", path).json()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        answer = self._http.request(method, path, json=body)
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # the token of a login lasts five minutes
            self._log_in()
            answer = self._http.request(method, path, json=body)
        if not answer.is_success:
            raise LabelStudioError(f"{method} {path}: {answer.status_code} {answer.text[:200]}", hint="read its log")
        return answer


def _choice(label: str) -> list[dict[str, Any]]:
    """An answer, with a comment that says whose it is."""
    given = {"to_name": "image", "from_name": "label", "type": "choices", "value": {"choices": [label]}}
    said = {"to_name": "image", "from_name": COMMENT, "type": "textarea", "value": {"text": [SIGNED]}}
    return [given, said]
