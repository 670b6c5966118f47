"""Airflow's REST API, as far as a person's first clicks go: see the DAGs, switch them on."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from lab.airflow_settings import Login
from lab.errors import LabError

_TIMEOUT = 15.0
_POLL_SECONDS = 0.5


class AirflowApi:
    """A client of a running Airflow 3.

    :param login: where it is, and who logs in
    :raises LabError: it can't be reached or refuses the login
    """

    def __init__(self, login: Login) -> None:
        self._url = login.url
        self._headers = {"Content-Type": "application/json"}
        answer = self._request(
            "POST", "/auth/token", {"username": login.user, "password": login.password}
        )
        self._headers["Authorization"] = f"Bearer {answer['access_token']}"

    def dag_ids(self) -> set[str]:
        """Return the ids of all DAGs that Airflow knows, up to 500.

        :raises LabError: it does not answer
        """
        answer = self._request("GET", "/api/v2/dags?limit=500")
        return {dag["dag_id"] for dag in answer["dags"]}

    def import_errors(self) -> list[str]:
        """Return a text for each DAG file that can't be used.

        :raises LabError: it does not answer
        """
        answer = self._request("GET", "/api/v2/importErrors")
        return [f"{one['filename']}: {one['stack_trace']}" for one in answer["import_errors"]]

    def switch_on(self, dag_id: str) -> None:
        """Let the scheduler run a DAG.

        :raises LabError: there is no such DAG, or Airflow does not answer
        """
        self._request("PATCH", f"/api/v2/dags/{quote(dag_id, safe='')}", {"is_paused": False})

    def mark_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task of a run as failed, as a person does.

        :raises LabError: there is no such task, or Airflow does not answer
        """
        words = [quote(word, safe="") for word in (dag_id, run_id, task_id)]
        path = "/api/v2/dags/{}/dagRuns/{}/taskInstances/{}".format(*words)
        self._request("PATCH", path, {"new_state": "failed"})

    def make_pool(self, name: str, *, slots: int, description: str) -> None:
        """Make a pool, as ``airflow pools set`` does.

        :raises LabError: there is one of that name, or Airflow does not answer
        """
        pool = {"name": name, "slots": slots, "description": description}
        self._request("POST", "/api/v2/pools", {**pool, "include_deferred": False})

    def wait_for_dags(self, dag_ids: Collection[str], *, timeout: float) -> None:
        """Wait until Airflow knows all of some DAGs.

        :param timeout: seconds
        :raises LabError: at once when a DAG file has an import error, else at the time-out
        """
        deadline = time.monotonic() + timeout
        while missing := set(dag_ids) - self.dag_ids():
            if errors := self.import_errors():
                raise LabError("\n".join(["Airflow can't use these DAG files:", *errors]))
            if time.monotonic() > deadline:
                names = ", ".join(sorted(missing))
                raise LabError(f"Airflow does not know these DAGs after {timeout:g} s: {names}")
            time.sleep(_POLL_SECONDS)

    def _request(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - always http, to ourselves
            self._url + path, data=data, method=method, headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise LabError(f"Airflow, {method} {path}: {error.code} {text}") from error
        except OSError as error:
            raise LabError(f"Airflow, {method} {path}: {error}") from error
