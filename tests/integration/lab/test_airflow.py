"""A real Airflow comes up in a home of its own, runs a DAG, and is gone with its starter."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from lab import reaper
from lab.airflow import Airflow
from lab.errors import MissingToolError
from lab.workspace import REPOSITORY, Workspace

pytestmark = pytest.mark.integration

_DAG = """
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG, BaseHook, BaseOperator

class Show(BaseOperator):
    def execute(self, context):
        print("connection to", BaseHook.get_connection("somewhere").host)

with DAG("minute", schedule="* * * * *", start_date=datetime(2024, 1, 1), catchup=False,
         is_paused_upon_creation=False):
    Show(task_id="show")
"""

_HOLDER = """
import sys, time
from pathlib import Path
from lab.airflow import Airflow
from lab.workspace import Workspace
with Workspace() as workspace:
    airflow = Airflow(workspace=workspace, bin=Path(sys.argv[1]), dags_folder=Path(sys.argv[2]))
    login = airflow.start_standalone()
    print(workspace.lab_id, login.url, login.user, login.password, flush=True)
    time.sleep(120)
"""


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "minute.py").write_text(_DAG)
    return tmp_path / "dags"


def _gone(lab_id: str, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while reaper.members(lab_id):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_standalone_takes_the_login_listens_on_loopback_and_dies_with_its_starter(
    dags: Path,
) -> None:
    """The login is taken, no port is open to others, and SIGKILL of the starter ends all."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(Path(sys.executable).parent), str(dags)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        assert holder.stdout
        lab_id, url, user, password = holder.stdout.readline().split()
        body = json.dumps({"username": user, "password": password}).encode()
        request = urllib.request.Request(
            f"{url}/auth/token", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["access_token"]
        pids = {key.pid for key in reaper.members(lab_id)}
        addresses = {
            connection.laddr.ip
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.pid in pids
        }
        assert addresses == {"127.0.0.1"}
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert _gone(lab_id, seconds=15)


@pytest.mark.parametrize("venv", [".venv", ".venv-2.11"])
def test_a_scheduled_dag_runs_and_sees_its_connection(venv: str, dags: Path) -> None:
    """On 3.x and 2.11 the scheduler runs a DAG, whose task reads a connection that we gave."""
    folder = REPOSITORY / venv / "bin"
    with Workspace() as workspace:
        airflow = Airflow(
            workspace=workspace,
            bin=folder,
            dags_folder=dags,
            connections={"somewhere": {"conn_type": "ssh", "host": "a.host"}},
        )
        airflow.start()
        deadline = time.monotonic() + 60
        while "connection to a.host" not in _task_logs(airflow):
            assert airflow.running
            assert time.monotonic() < deadline, _task_logs(airflow)
            time.sleep(0.5)
        airflow.stop()
        assert not airflow.running


def test_a_folder_without_airflow_is_named(tmp_path: Path, dags: Path) -> None:
    """A virtual environment that hasn't been made is an error that says so."""
    with Workspace() as workspace, pytest.raises(MissingToolError, match="virtual environment"):
        Airflow(workspace=workspace, bin=tmp_path, dags_folder=dags)


def _task_logs(airflow: Airflow) -> str:
    return "".join(path.read_text() for path in airflow.log_folder.rglob("attempt=*.log"))
