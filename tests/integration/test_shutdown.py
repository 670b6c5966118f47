"""Triggerer and worker are stopped and killed in the middle of a describe, on both versions.

The brokers hang meanwhile, so that the JVM on the host has to be ended by its own time limit. Three
minutes are spoilt like that; each test looks at one side of what they left behind.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from lab import client
from lab.airflow import Airflow
from lab.airflow_api import AirflowApi
from lab.elasticsearch import Elasticsearch
from lab.errors import PartError
from lab.laboratory import Laboratory
from lab.postgresql import PostgreSQL
from lab.process import Process
from lab.sshd import OpenSshServer
from tests.integration.support import BINS, WRITER, eventually, mirror, search, write_project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

MINUTE = timedelta(minutes=1)
# Of the describe, seconds: the host ends the JVM within it.
LIMIT = 30
# Of all who hang with the broker the tool's own time-out may come first.
OURS = {"BrokerTimedOut", "BrokerUnreachable", "DescribeTimedOut", "DescribeKilled", "OutputCutOff"}
BY_HAND = """
from datetime import datetime, timedelta
from airflow.providers.common.compat.sdk import DAG
from airflow_lag_provider.ended import ended_by_airflow
from airflow_lag_provider.operators.lag import SSHLagOperator

with DAG("mine", schedule="* * * * *", start_date=datetime(2024, 1, 1), catchup=False,
         is_paused_upon_creation=False):
    SSHLagOperator(
        task_id="snapshot", topic="{topic}", mirror="mine", group="{group}",
        bootstrap_servers="{servers}", ssh_conn_id="host", elasticsearch_conn_id="elastic",
        index="{index}", tool="{tool}", deferrable=True, execution_timeout=timedelta(seconds=5),
        on_failure_callback=[ended_by_airflow],
    )
"""


@dataclass
class Spoilt:
    """One minute in which everything hung and something was ended.

    :param due: its scheduled instant.
    :param ended_at: when triggerer and worker were ended.
    :param left: how many processes of the describes were on the host right after it.
    """

    due: datetime
    ended_at: datetime
    left: int


@dataclass
class Story:
    """What the minutes left behind.

    :param stopped: the minute with SIGTERM, and `killed`, that with SIGKILL.
    :param lost: the minute in which the worker was killed with all that belonged to it.
    :param documents: all documents in the end.
    :param report: what ``airflow-lag gaps`` says of these minutes.
    """

    version: str
    stopped: Spoilt
    killed: Spoilt
    lost: Spoilt
    documents: list[dict[str, Any]]
    report: dict[str, Any]

    def of(self, name: str, spoilt: Spoilt) -> list[dict[str, Any]]:
        """Return the documents of a mirror and minute."""
        return [one for one in self.documents if one["mirror"] == name and _due(one) == spoilt.due]


def _due(document: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(document["airflow"]["scheduled_at"])


@dataclass
class Stage:
    """An Airflow and what it works with, while the story runs.

    :param host: where the triggerer's describes run; `workers_host`, where the worker's do.
    """

    version: str
    lab: Laboratory
    airflow: Airflow
    elasticsearch: Elasticsearch
    host: OpenSshServer
    workers_host: OpenSshServer
    mirrors: tuple[str, ...] = ("triggered", "worked", "mine")
    parts: list[Any] = field(default_factory=list)

    @property
    def index(self) -> str:
        return f"consumer_lag-shutdown-{self.version}"

    @property
    def group(self) -> str:
        return f"shutdown-group-{self.version}"

    def documents(self) -> list[dict[str, Any]]:
        with suppress(PartError):
            return [hit["_source"] for hit in search(self.elasticsearch, index=self.index)]
        return []

    def describes(self, *, program: bytes = b"") -> set[int]:
        """Return the processes of describes: of the shells, `timeout` and Java, or one of them."""
        found = set()
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = file.read_bytes()
                if self.group.encode() in words and words.split(b"\0")[0].endswith(program):
                    found.add(int(file.parent.name))
        return found

    def worker(self) -> psutil.Process | None:
        """Return the process that has the connection to the workers' host."""
        for one in psutil.net_connections("tcp"):
            if one.raddr and one.raddr.port == self.workers_host.port and one.pid:
                return psutil.Process(one.pid)
        return None

    @contextmanager
    def hanging(self) -> Iterator[datetime]:
        """Let the brokers hang from before a minute on until all its describes are through.

        :return: the minute.
        """
        due = (datetime.now(UTC) + timedelta(seconds=20)).replace(second=0, microsecond=0) + MINUTE
        _until(due - timedelta(seconds=2))
        self.lab.source.pause()
        try:
            _until(due)
            eventually(lambda: self.worker() is not None, "the worker is at work", seconds=40)
            # The triggerer's and the worker's.
            eventually(
                lambda: len(self.describes(program=b"java")) >= 2, "describes run", seconds=20
            )
            begun = self.describes()
            yield due
            eventually(
                lambda: not begun & self.describes(),
                "no describe is left on the host",
                seconds=LIMIT + 10,
            )
        finally:
            self.lab.source.resume()

    def wait_for(self, due: datetime, *names: str) -> None:
        """Wait until mirrors have a document of a minute."""

        def missing() -> set[str]:
            return set(names) - {one["mirror"] for one in self.documents() if _due(one) == due}

        eventually(lambda: not missing(), f"documents of {names} of {due}", seconds=240)


def _until(instant: datetime) -> None:
    time.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))


@pytest.fixture(scope="module", params=["3.3", "2.11"])
def stage(
    request: pytest.FixtureRequest,
    lab: Laboratory,
    elasticsearch: Elasticsearch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    version: str = request.param
    database = PostgreSQL(workspace=lab.workspace, name=f"postgresql-shutdown-{version}")
    hosts = [
        OpenSshServer(workspace=lab.workspace, name=f"openssh-shutdown-{version}-{n}")
        for n in (1, 2)
    ]
    for part in (database, *hosts):
        part.start()
    airflow = Airflow(
        workspace=lab.workspace,
        bin=BINS[version],
        dags_folder=_project(tmp_path_factory.mktemp("shutdown"), lab, version),
        name=f"shutdown-{version}",
        database=database.url(),
        connections={
            "host": hosts[0].connection(),
            "workers_host": hosts[1].connection(),
            "elastic": elasticsearch.connection(WRITER),
        },
        environment={
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
            # When a worker counts as lost.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
            "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "40",
        },
    )
    stage = Stage(version, lab, airflow, elasticsearch, *hosts)
    for group in (stage.group, f"{stage.group}-mine"):
        client.commit_offsets(lab.source.bootstrap, group, {("orders", 0): 0})
    yield stage
    airflow.stop()
    for part in (*hosts, database):
        part.stop()


def _project(folder: Path, lab: Laboratory, version: str) -> Path:
    common = {
        "group": f"shutdown-group-{version}",
        "timeout": f"{LIMIT}s",
        "retries": 0,
        "paused": False,
    }
    triggered = mirror(lab, ssh_conn_id="host", **common)
    worked = mirror(lab, ssh_conn_id="workers_host", deferrable=False, **common)
    index = f"consumer_lag-shutdown-{version}"
    dags = write_project(folder, mirrors={"triggered": triggered, "worked": worked}, index=index)
    (dags / "mine.py").write_text(
        BY_HAND.format(
            topic="orders",
            # Not the others' group: describes of one group wait for each other, and this task has
            # to be at its own when its time is over.
            group=f"{common['group']}-mine",
            servers=lab.source.bootstrap,
            index=index,
            tool=lab.tool,
        )
    )
    return dags


@pytest.fixture(scope="module")
def story(stage: Stage) -> Story:
    stage.airflow.start()
    for name in stage.mirrors:
        eventually(
            lambda name=name: any(one["mirror"] == name for one in stage.documents()),
            f"the first document of {name}",
            seconds=300,
        )
    stopped = _spoil(stage, Process.stop, lambda one: one.send_signal(signal.SIGTERM))
    killed = _spoil(stage, Process.kill, lambda one: one.kill())
    lost = _spoil(stage, None, _lose)
    return Story(
        stage.version, stopped, killed, lost, stage.documents(), _report(stage, stopped, lost)
    )


def _spoil(
    stage: Stage,
    end_triggerer: Callable[[Process], None] | None,
    end_worker: Callable[[psutil.Process], None],
) -> Spoilt:
    """Spoil a minute, and wait until all that is to come of it is there."""
    triggerer = stage.airflow.component("triggerer")
    with stage.hanging() as due:
        worker = stage.worker()
        assert worker is not None
        if end_triggerer:
            end_triggerer(triggerer)
        elif stage.version == "3.3":
            _mark_failed(stage, due)
        end_worker(worker)
        spoilt = Spoilt(due, datetime.now(UTC), len(stage.describes()))
    if end_triggerer:
        triggerer.start()
    stage.wait_for(due, *stage.mirrors)
    return spoilt


def _report(stage: Stage, first: Spoilt, last: Spoilt) -> dict[str, Any]:
    """Ask for the minutes without a snapshot when the last of them is old enough."""
    _until(last.due + 5 * MINUTE)
    span = ("--from", first.due.isoformat(), "--to", (last.due + MINUTE).isoformat())
    program = str(stage.airflow.bin / "airflow-lag")
    done = stage.airflow.execute(program, "gaps", "--json", *span)
    assert done.code == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _lose(worker: psutil.Process) -> None:
    """Kill a task's process and the one above it, which would tell Airflow of its end."""
    above = worker.parent()
    assert above is not None
    for one in (above, worker):
        os.kill(one.pid, signal.SIGKILL)


def _mark_failed(stage: Stage, due: datetime) -> None:
    """Mark the task in the triggerer failed, as a person does."""
    run_id = f"scheduled__{due.isoformat()}"
    AirflowApi(stage.airflow.login).mark_failed("consumer_lag.triggered.orders", run_id, "orders")


def _error(documents: list[dict[str, Any]]) -> str | None:
    (document,) = documents
    error: str | None = document.get("error", {}).get("type")
    assert (document["event"]["outcome"] == "success") == (error is None)
    return error


def test_every_run_has_one_whole_document(story: Story) -> None:
    """No minute of any series is missing, doubled or half; each document has its outcome."""
    for name in ("triggered", "worked", "mine"):
        for spoilt in (story.stopped, story.killed, story.lost):
            (document,) = story.of(name, spoilt)
            whole = "p0" in document if document["event"]["outcome"] == "success" else "error"
            assert whole


def test_describes_were_on_the_host_when_their_airflow_was_gone(story: Story) -> None:
    """So the host's own time limit ended them; the story waits until none of them is left."""
    assert story.killed.left >= 2


def test_the_triggerers_run_was_taken_up_again(story: Story) -> None:
    """After SIGTERM and after SIGKILL the next triggerer begins it anew and takes its snapshot."""
    for spoilt in (story.stopped, story.killed):
        documents = story.of("triggered", spoilt)
        assert _error(documents) is None
        delay = timedelta(microseconds=documents[0]["event"]["delay"] / 1000)
        assert spoilt.due + delay > spoilt.ended_at


def test_a_worker_that_is_asked_to_stop_leaves_the_reason(story: Story) -> None:
    """On 3.3 its task goes on to its own end; on 2.11 Airflow ends it and calls back."""
    error = _error(story.of("worked", story.stopped))
    # Its own end is a snapshot when its describe outlasts the brokers' hanging.
    assert error in ({*OURS, None} if story.version == "3.3" else {"EndedByAirflow"})


def test_a_worker_that_is_killed_leaves_the_document_of_its_end(story: Story) -> None:
    """Nobody calls for its task on 3.3, but for the DAG's run; on 2.11 the zombie is called for."""
    assert _error(story.of("worked", story.killed)) == "EndedByAirflow"


def test_a_worker_that_is_lost_altogether_is_found_out(story: Story) -> None:
    """After the time without a heartbeat the scheduler fails the task, and calls back."""
    assert _error(story.of("worked", story.lost)) == "EndedByAirflow"


def test_a_trigger_that_runs_into_airflows_time_limit_leaves_its_document(story: Story) -> None:
    """The DAG written by hand gives its task five seconds, and the callback."""
    (document,) = story.of("mine", story.lost)
    assert document["error"]["type"] == "EndedByAirflow"
    assert "imeout" in document["error"]["message"]


def test_the_command_lists_each_of_these_minutes_with_its_reason(story: Story) -> None:
    """It asked Elasticsearch and Airflow's database, and found failures and not one gap."""
    # The DAG of one's own, which may have any schedule.
    assert "mine/orders (mine)" in story.report["note"]
    listed = {
        (one["mirror"], datetime.fromisoformat(one["first"]) + number * MINUTE): one["reason"]
        for one in story.report["missing"]
        for number in range(one["instants"])
    }
    assert not [one for one in story.report["missing"] if one["kind"] == "gap"]
    failed = {
        (one["mirror"], _due(one)): one["error"]["type"]
        for one in story.documents
        if "error" in one and story.stopped.due <= _due(one) <= story.lost.due
    }
    assert failed.items() <= listed.items()


def test_a_task_that_a_person_marks_failed_leaves_a_document(story: Story) -> None:
    """On 3.3 the trigger is told; on 2.11 nobody marked it, and the describe failed by itself."""
    (document,) = story.of("triggered", story.lost)
    if story.version == "3.3":
        assert document["error"]["type"] == "EndedByAirflow"
        assert "somebody marks" in document["error"]["message"]
    else:
        assert document["error"]["type"] in OURS
