"""Layouts and paths with the real scheduler of both versions, on a group that stands still.

Each version runs through one story of some minutes, in which topics are missing in every way: one
that its group doesn't have, all of a group that isn't there, one whose task never runs. Deadlines
(Airflow 3) have to name these topics and no other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab import client
from lab.airflow import Airflow
from lab.elasticsearch import Elasticsearch
from lab.errors import PartError
from lab.laboratory import Laboratory
from lab.postgresql import PostgreSQL, rows
from lab.workspace import REPOSITORY
from tests.integration.support import BINS, WRITER, eventually, mirror, search, write_project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

GROUP = "still-group"
MISSING = "never-mirrored"
# Of the topics that come in time and of those that don't; the first to be over is the shorter one.
MET, MISSED = 30, 40
# By path: the mirror's name begins so, and its runs are of this type.
PATHS = {"trigger": ("", "scheduled"), "worker": ("worker-", "scheduled"), "test": ("", "manual")}
LATE_CALLS = '''
"""A user's callbacks: each writes down what it was told."""

import json
import os

from airflow.sdk import BaseHook, BaseNotifier


def _note(context, **what):
    with open(os.environ["LATE_CALLS"], "a") as file:
        print(json.dumps({"run_id": context["dag_run"]["dag_run_id"], **what}), file=file)


async def awaited(context, mirror, topics, sla, failed, unchecked):
    _note(context, mirror=mirror, topics=topics, sla=sla, failed=failed, unchecked=unchecked)


def plain(context, **what):
    _note(context, host=BaseHook.get_connection("mail").host, **what)


class Mail(BaseNotifier):
    template_fields = ("text",)

    def __init__(self):
        super().__init__()
        self.text = "{{ mirror }}: {{ topics | join(' and ') }}"

    async def async_notify(self, context):
        what = ("mirror", "topics", "sla", "failed", "unchecked")
        _note(context, text=self.text, **{name: context[name] for name in what})
'''


@dataclass
class Story:
    """What some minutes of one version of Airflow left behind.

    :param hits: all hits of the index.
    :param xcoms: what tasks handed on, by DAG, run and task.
    :param states: how tasks stand, by DAG, run and task.
    :param calls: what the user's callbacks were told.
    :param by_hand: exit code and output of `airflow dags test`, by DAG.
    :param log: the text of all logs of Airflow's processes.
    :param task_logs: the tasks' own logs, by path.
    """

    version: str
    hits: list[dict[str, Any]]
    xcoms: dict[tuple[str, str, str], Any]
    states: dict[tuple[str, str, str], str]
    calls: list[dict[str, Any]]
    by_hand: dict[str, tuple[int, str]]
    log: str
    task_logs: dict[str, str] = field(repr=False)

    def documents(self, name: str, run_type: str = "scheduled") -> list[dict[str, Any]]:
        sources = (hit["_source"] for hit in self.hits)
        return [
            one
            for one in sources
            if one["mirror"] == name and one["airflow"]["run_type"] == run_type
        ]

    def calls_in_time(self, name: str, sla: int) -> list[dict[str, Any]]:
        """Return a mirror's calls for one `sla` of runs whose other documents were there early.

        The first run of a DAG can be late as a whole.
        """
        early = self.runs_in_time(name)
        assert early, f"no run of {name} was in time"
        mine = [one for one in self.calls if one["mirror"] == name and one["sla"] == sla]
        return [one for one in mine if one["run_id"] in early]

    def runs_in_time(self, name: str) -> set[str]:
        """Return the runs of a mirror whose documents were written well before any deadline."""
        times: dict[str, timedelta] = {}
        for one in self.documents(name):
            spent = timedelta(microseconds=(one["event"]["delay"] + one["event"]["duration"]) / 1e3)
            run_id = one["airflow"]["run_id"]
            times[run_id] = max(times.get(run_id, timedelta()), spent)
        return {run_id for run_id, spent in times.items() if spent < timedelta(seconds=MET - 5)}


@pytest.fixture(scope="module")
def still(lab: Laboratory) -> None:
    """A group without members: a lag of 3, one commit beyond the end, and nothing to catch up."""
    lab.source.create_topic("still-a", 3)
    lab.source.create_topic("still-b", 1)
    for topic, partition, count in (("still-a", 0, 5), ("still-b", 0, 4)):
        lab.source.produce(topic, partition, count)
    offsets = {("still-a", 0): 2, ("still-a", 2): 3, ("still-b", 0): 4}
    client.commit_offsets(lab.source.bootstrap, GROUP, offsets)


@pytest.fixture(scope="module", params=["3.3", "2.11"])
def story(
    request: pytest.FixtureRequest,
    lab: Laboratory,
    still: None,
    elasticsearch: Elasticsearch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    version: str = request.param
    index = f"consumer_lag-layouts-{version}"
    folder = tmp_path_factory.mktemp("layouts")
    # SQLite would refuse a command that writes while the scheduler does, now and then.
    database = PostgreSQL(workspace=lab.workspace, name=f"postgresql-layouts-{version}")
    database.start()
    airflow = _airflow(version, lab, index, folder, database)
    _add_connections(airflow, lab, elasticsearch, folder)
    # While the first task's document makes its index, nobody can ask that for earlier snapshots.
    mapping = REPOSITORY / "include" / "mapping.json"
    elasticsearch.request("PUT", f"/{index}", json.loads(mapping.read_text()))
    calls = folder / "calls"
    calls.touch()
    airflow.start()
    try:
        for name in ("one", "all", "worker-one", "worker-all", "gone"):
            _wait_for_document(elasticsearch, index, mirror=name)
        if version == "3.3":
            now = datetime.now(UTC).isoformat()
            done = airflow.run("dags", "trigger", "consumer_lag.gone", "--logical-date", now)
            assert done.code == 0, done.stdout + done.stderr
            for name in ("all", "gone", "stuck"):
                eventually(
                    lambda name=name: sum(one["mirror"] == name for one in _read(calls)) >= 3,
                    f"three calls for mirror {name}",
                    seconds=360,
                )
    finally:
        airflow.stop()
    by_hand = {}
    for dag_id in ("consumer_lag.one.still-a", "consumer_lag.all"):
        done = airflow.run("dags", "test", dag_id)
        by_hand[dag_id] = (done.code, done.stdout + done.stderr)
    xcoms = _column(database, "value", "xcom WHERE key = 'return_value'")
    yield Story(
        version=version,
        hits=search(elasticsearch, index=index),
        xcoms={key: _unpacked(value) for key, value in xcoms.items()},
        states=_column(database, "state", "task_instance"),
        calls=_read(calls),
        by_hand=by_hand,
        log="\n".join(
            file.read_text(errors="replace")
            for file in airflow.log_folder.parent.glob(f"{airflow.name}-*.log")
        ),
        task_logs={
            str(file): file.read_text(errors="replace")
            for file in airflow.log_folder.rglob("*.log")
        },
    )
    database.stop()


def _airflow(
    version: str, lab: Laboratory, index: str, folder: Path, database: PostgreSQL
) -> Airflow:
    # Until a triggerer has read its first connection from the database, seconds go by.
    common = {"group": GROUP, "paused": False, "retries": 0, "timeout": "50s"}
    one = {"layout": "topic", "topics": {"still-a": None}}
    met, missed = {"sla": f"{MET}s"}, {"sla": f"{MISSED}s"}
    every = {
        "layout": "group",
        "topics": {"still-a": met, "still-b": met, MISSING: missed},
    }
    gone = {
        "layout": "group",
        "group": "no-such-group",
        "topics": {"still-a": missed, "still-b": missed},
    }
    mirrors = {
        "one": mirror(lab, **common, **one),
        "all": mirror(lab, **common, **every),
        "worker-one": mirror(lab, **common, **one, deferrable=False),
        "worker-all": mirror(lab, **common, **every, deferrable=False),
        "gone": mirror(lab, **{**common, **gone}),
    }
    if version == "3.3":
        # Its second topic waits for a pool that isn't there, and its run with it.
        never = {**missed, "deferrable": False, "pool": "nowhere"}
        topics = {"still-a": met, "still-b": never}
        mirrors["stuck"] = mirror(lab, **common, layout="mirror", topics=topics)
        callbacks = {"all": "plain", "gone": "Mail", "stuck": "awaited"}
        for name, callback in callbacks.items():
            mirrors[name]["sla_miss_callback"] = f"late_calls.{callback}"
    modules = folder / "modules"
    modules.mkdir()
    (modules / "late_calls.py").write_text(LATE_CALLS)
    return Airflow(
        workspace=lab.workspace,
        bin=BINS[version],
        dags_folder=write_project(folder / "project", mirrors=mirrors, index=index),
        name=f"layouts-{version}",
        database=database.url(),
        environment={
            "PYTHONPATH": f"{modules}:{REPOSITORY}",
            "LATE_CALLS": str(folder / "calls"),
        },
    )


def _add_connections(
    airflow: Airflow, lab: Laboratory, elasticsearch: Elasticsearch, folder: Path
) -> None:
    """Write connections into Airflow's database, where tasks, triggers and callbacks find them."""
    connections = {
        "mirrormaker": lab.sshd.connection(),
        "elastic": elasticsearch.connection(WRITER),
        "mail": {"conn_type": "generic", "host": "mail.example"},
    }
    file = folder / "connections.json"
    file.write_text(json.dumps(connections))
    airflow.migrate()
    done = airflow.run("connections", "import", str(file))
    assert done.code == 0, done.stdout + done.stderr


def _wait_for_document(elasticsearch: Elasticsearch, index: str, **terms: Any) -> None:
    def there() -> bool:
        # An index that is being created can't be searched for a moment.
        with suppress(PartError):
            return bool(search(elasticsearch, index=index, **terms))
        return False

    eventually(there, f"a document of {terms}", seconds=300)


def _column(database: PostgreSQL, column: str, source: str) -> dict[tuple[str, str, str], Any]:
    """Return a column of Airflow's database by DAG, run and task."""
    found = rows(database.url(), f"SELECT dag_id, run_id, task_id, {column} FROM {source}")
    return {row[:3]: row[3] for row in found}


def _unpacked(value: Any) -> Any:
    """Return an XCom's value; Airflow 3 keeps JSON text within JSON, Airflow 2 its bytes."""
    while isinstance(value, str | bytes | memoryview):
        value = json.loads(bytes(value) if isinstance(value, memoryview) else value)
    return value


def _read(calls: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in calls.read_text().splitlines()]


def _ended(story: Story, path: str, layout: str) -> tuple[str, str, str]:
    """Return DAG, run and task of a run that ended, of one path."""
    prefix, run_type = PATHS[path]
    documents = story.documents(f"{prefix}{layout}", run_type)
    assert documents, story.by_hand
    at = documents[0]["airflow"]
    return at["dag_id"], at["run_id"], at["task_id"]


def _without_what_differs(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without the moments, and without who did the work in which run."""
    rest = {k: v for k, v in document.items() if k not in ("@timestamp", "mirror", "airflow")}
    return {
        **rest,
        "event": {"outcome": document["event"]["outcome"]},
        "airflow": {"try_number": document["airflow"]["try_number"]},
    }


def _documents_of(story: Story, path: str, layout: str) -> dict[str, dict[str, Any]]:
    prefix, run_type = PATHS[path]
    run_id = _ended(story, path, layout)[1]
    documents = [
        one
        for one in story.documents(f"{prefix}{layout}", run_type)
        if one["airflow"]["run_id"] == run_id
    ]
    by_topic = {one["topic"]: _without_what_differs(one) for one in documents}
    assert len(by_topic) == len(documents)
    return by_topic


def row(number: int, committed: int, end: int, lag: int) -> dict[str, Any]:
    nobody = {"consumer": None, "host": None, "client": None}
    return {"id": number, "committed": committed, "end": end, "lag": lag, **nobody}


COMMON = {
    "group": GROUP,
    "group_state": "empty",
    "unconfigured_topics": [],
    "event": {"outcome": "success"},
    "airflow": {"try_number": 1},
}
STILL_A = {
    **COMMON,
    "topic": "still-a",
    "p0": 3,
    "p2": -3,
    "lag": {"total": 3, "max": 3, "max_partition": 0, "reported_mismatch": False},
    "partitions": {"total": 2, "uncommitted": 0, "negative": 1, "missing": 0},
    "offsets": {"committed": 5, "end": 5},
    "partition": [row(0, 2, 5, 3), row(2, 3, 0, -3)],
}
STILL_B = {
    **COMMON,
    "topic": "still-b",
    "p0": 0,
    "lag": {"total": 0, "max": 0, "max_partition": 0, "reported_mismatch": False},
    "partitions": {"total": 1, "uncommitted": 0, "negative": 0, "missing": 0},
    "offsets": {"committed": 4, "end": 4},
    "partition": [row(0, 4, 4, 0)],
}


@pytest.mark.parametrize("path", PATHS)
def test_the_document_is_the_same_on_every_path(story: Story, path: str) -> None:
    """Worker, triggerer and `dags test` of both versions store the same figures and reasons."""
    assert _documents_of(story, path, "one") == {"still-a": STILL_A}
    documents = _documents_of(story, path, "all")
    failure = documents.pop(MISSING)
    assert documents == {"still-a": STILL_A, "still-b": STILL_B}
    error = failure.pop("error")
    assert failure == {
        "group": GROUP,
        "topic": MISSING,
        "unconfigured_topics": [],
        "event": {"outcome": "failure"},
        "airflow": {"try_number": 1},
    }
    assert error["type"] == "TopicNotInGroup"
    assert error == _documents_of(story, "trigger", "all")[MISSING]["error"]


@pytest.mark.parametrize("path", PATHS)
def test_the_xcom_is_the_same_on_every_path(story: Story, path: str) -> None:
    """What a task hands on doesn't depend on who did the work; it leads to the document."""
    one = dict(story.xcoms[_ended(story, path, "one")])
    document_id = one.pop("document_id")
    (hit,) = [hit for hit in story.hits if hit["_id"] == document_id]
    assert hit["_index"] == one.pop("index")
    assert hit["_source"]["airflow"]["run_id"] == _ended(story, path, "one")[1]
    command = one.pop("command")
    assert f"--group {GROUP}" in command
    assert one == {"topic": "still-a", "lag": {"total": 3, "max": 3}}
    every = story.xcoms[_ended(story, path, "all")]
    assert every == {"command": command, "stored": 2, "failed": [MISSING]}


def test_a_topic_that_is_missing_fails_the_task_of_all_which_names_it(story: Story) -> None:
    """On every path the task of layout group has failed, and its log names topic and reason."""
    for path in ("trigger", "worker"):
        dag_id, run_id, task_id = _ended(story, path, "all")
        assert story.states[dag_id, run_id, task_id] == "failed"
        log = "".join(
            text
            for name, text in story.task_logs.items()
            if run_id in name and f"={dag_id}/" in name
        )
        assert "TopicNotInGroup" in log
        assert MISSING in log
    code, output = story.by_hand["consumer_lag.all"]
    assert code != 0
    assert MISSING in output
    code, output = story.by_hand["consumer_lag.one.still-a"]
    assert code == 0, output


def test_a_describe_that_fails_leaves_a_failure_document_for_each_topic(story: Story) -> None:
    """In layout group each topic of a group that isn't there has its own document that says so."""
    documents = story.documents("gone")
    at = documents[0]["airflow"]
    of_run = [one for one in documents if one["airflow"]["run_id"] == at["run_id"]]
    assert {one["topic"] for one in of_run} == {"still-a", "still-b"}
    assert len(of_run) == 2
    assert {one["error"]["type"] for one in documents} == {"GroupNotFound"}
    key = (at["dag_id"], at["run_id"], at["task_id"])
    assert story.states[key] == "failed"
    assert story.xcoms[key]["stored"] == 0
    assert story.xcoms[key]["failed"] == ["still-a", "still-b"]


def _told(story: Story, name: str) -> list[dict[str, Any]]:
    """Return what a mirror's callback was told of runs in time, each different thing once."""
    told: list[dict[str, Any]] = []
    for call in story.calls_in_time(name, MISSED):
        what = {k: v for k, v in call.items() if k not in ("run_id", "mirror", "sla")}
        if what not in told:
            told.append(what)
    return told


@pytest.mark.parametrize("story", ["3.3"], indirect=True)
class TestDeadlines:
    """What becomes of an sla on Airflow 3; 2.11's is looked at in test_schedule.py."""

    def test_in_layout_mirror_the_topic_without_a_document_is_named_alone(
        self, story: Story
    ) -> None:
        """A coroutine function hears of the topic whose task never ran, and of no failure."""
        assert _told(story, "stuck") == [{"topics": ["still-b"], "failed": {}, "unchecked": None}]

    def test_in_layout_group_the_topic_without_a_snapshot_is_named_alone(
        self, story: Story
    ) -> None:
        """A plain function, which can read a connection, hears of the topic and its failure."""
        failed = {MISSING: "TopicNotInGroup"}
        assert _told(story, "all") == [
            {"topics": [MISSING], "failed": failed, "unchecked": None, "host": "mail.example"}
        ]

    def test_a_failed_describe_is_told_with_all_topics_and_its_reason(self, story: Story) -> None:
        """A notifier, whose template can name the topics, hears of all of them."""
        topics = ["still-a", "still-b"]
        failed = dict.fromkeys(topics, "GroupNotFound")
        text = "gone: still-a and still-b"
        assert _told(story, "gone") == [
            {"topics": topics, "failed": failed, "unchecked": None, "text": text}
        ]

    def test_without_a_callback_it_is_a_line_in_the_log(self, story: Story) -> None:
        """The triggerer's log has the same, in one line."""
        assert (
            "SLA missed in DAG consumer_lag.worker-all: no snapshot in time for "
            f"{MISSING} (TopicNotInGroup); {MISSED} s after "
        ) in story.log

    @pytest.mark.parametrize("name", ["stuck", "all"])
    def test_nobody_is_told_of_topics_that_have_their_snapshots(
        self, story: Story, name: str
    ) -> None:
        """The run is late or failed for another topic's sake: its met `sla` raises no alarm."""
        assert not story.calls_in_time(name, MET)
        told = {one["run_id"] for one in story.calls_in_time(name, MISSED)}
        assert told
        for run_id in told:
            words = f"The run {run_id} of DAG consumer_lag.{name} missed its deadline of {MET} s, "
            assert f"{words}but has a snapshot of still-a" in story.log

    def test_a_run_by_hand_has_no_deadline(self, story: Story) -> None:
        """It failed like the scheduled ones, and the user was not called."""
        (run_id,) = {one["airflow"]["run_id"] for one in story.documents("gone", "manual")}
        assert f"A deadline holds for scheduled runs; the run {run_id}" in story.log
        assert run_id not in {one["run_id"] for one in story.calls}

    def test_no_secret_is_in_a_log(self, story: Story) -> None:
        """The password that callbacks and tasks read from Airflow's database is nowhere."""
        assert WRITER.password not in story.log
        assert not [name for name, text in story.task_logs.items() if WRITER.password in text]
