"""The real scheduler of both versions, unattended for some minutes; then things happen to it.

One laboratory of two Airflows runs through one story of about seven minutes; each test looks at
one side of what it left behind.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.airflow import Airflow
from lab.elasticsearch import Elasticsearch
from lab.errors import PartError
from lab.laboratory import Laboratory
from lab.postgresql import PostgreSQL
from lab.producer import Producer
from lab.sshd import AsyncsshServer
from tests.integration.conftest import wait_until_mirrored
from tests.integration.support import BINS, WRITER, eventually, mirror, search, write_project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

INDEX = "consumer_lag-schedule"
TOPICS = ("orders", "payments", "clicks")
MINUTE = timedelta(minutes=1)
SLA_MISS_2 = "SLA missed in DAG consumer_lag.old: no snapshot in time for orders"
BROKEN = {"topics": {"orders": {"max_lag": "many"}}}


@dataclass
class Story:
    """What happened, and what was left behind.

    :param paused_at: when the DAG of topic ``clicks`` was paused.
    :param cleared: run id of the run of topic ``orders`` that was cleared, and its old document.
    :param again: the document of a run of topic ``payments`` before it was backfilled.
    :param hits: all hits of the index in the end.
    :param runs: scheduled runs of the DAG of topic ``orders`` that ended, by Airflow 3's account.
    :param import_errors: by version, what ``airflow dags list-import-errors`` says.
    :param logs: by version, the text of all logs.
    """

    paused_at: datetime
    cleared: tuple[str, dict[str, Any]]
    again: dict[str, Any]
    hits: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    import_errors: dict[str, str]
    logs: dict[str, str]

    def documents(self, **fields: Any) -> list[dict[str, Any]]:
        """Return documents by the values of fields, which have ``__`` for each dot."""
        sources = [hit["_source"] for hit in self.hits]
        return [one for one in sources if all(_at(one, k) == v for k, v in fields.items())]


def _at(document: Any, name: str) -> Any:
    for part in name.split("__"):
        document = (document or {}).get(part)
    return document


@dataclass
class Stage:
    """The two Airflows and what they work with, while the story runs.

    :param database: of Airflow 3. Commands that write come while its scheduler writes too, and
        SQLite would refuse one of them ("database is locked") now and then.
    """

    lab: Laboratory
    elasticsearch: Elasticsearch
    folder: Path
    old_host: AsyncsshServer
    database: PostgreSQL
    airflows: dict[str, Airflow] = field(default_factory=dict)

    def airflow(self, version: str, mirrors: dict[str, Any]) -> Airflow:
        """Return an Airflow, not started, whose DAGs are those of the mirrors."""
        dags = write_project(self.folder / version, mirrors=mirrors, index=INDEX)
        self.airflows[version] = Airflow(
            workspace=self.lab.workspace,
            bin=BINS[version],
            dags_folder=dags,
            name=f"scheduled-{version}",
            database=self.database.url() if version == "3.3" else None,
            connections={
                "mirrormaker": self.lab.sshd.connection(),
                "openssh": self.lab.openssh.connection(),
                "old_host": self.old_host.connection(),
                "elastic": self.elasticsearch.connection(WRITER),
            },
            environment={"AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "10"},
        )
        return self.airflows[version]

    def documents(self, **terms: Any) -> list[dict[str, Any]]:
        """Return the documents of the index by the values of fields."""
        return [hit["_source"] for hit in search(self.elasticsearch, index=f"{INDEX}*", **terms)]

    def wait_for(self, count: int, *, seconds: float, **terms: Any) -> None:
        """Wait for a number of documents with these values."""

        def there() -> bool:
            # An index that is being created can't be searched for a moment.
            with suppress(PartError):
                return len(self.documents(**terms)) >= count
            return False

        eventually(there, f"{count} of {terms}", seconds=seconds)


@pytest.fixture(scope="module")
def stage(
    lab: Laboratory, elasticsearch: Elasticsearch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    old_host = AsyncsshServer(workspace=lab.workspace, name="sshd-old")
    database = PostgreSQL(workspace=lab.workspace, name="postgresql-schedule")
    for part in (old_host, database):
        part.start()
    producer = Producer(
        bootstrap=lab.source.bootstrap, topics=lab.topics, partitions=lab.partitions
    )
    producer.start()
    stage = Stage(lab, elasticsearch, tmp_path_factory.mktemp("schedule"), old_host, database)
    yield stage
    for airflow in stage.airflows.values():
        airflow.stop()
    for part in (producer, old_host, database):
        part.stop()
    wait_until_mirrored(lab)


@pytest.fixture(scope="module")
def story(stage: Stage) -> Story:
    topics = {"orders": None, "payments": None, "clicks": {"sla": "2m"}}
    oasis = mirror(stage.lab, topics=topics, paused=False)
    flaky = mirror(
        stage.lab, ssh_conn_id="openssh", paused=False, retries=1, retry_delay="5s", timeout="20s"
    )
    old = mirror(
        stage.lab,
        ssh_conn_id="old_host",
        paused=False,
        layout="mirror",
        retries=0,
        topics={"orders": {"sla": "5s"}, "clicks": {"sla": "1h"}},
    )
    new = stage.airflow("3.3", {"oasis": oasis, "broken": BROKEN, "flaky": flaky})
    new.start()
    stage.airflow("2.11", {"old": old, "broken": BROKEN}).start()

    for topic in TOPICS:
        stage.wait_for(3, seconds=300, mirror="oasis", topic=topic, event__outcome="success")
    stage.wait_for(2, seconds=200, mirror="old", topic="orders", event__outcome="success")

    stage.old_host.stop()
    paused_at = _pause(stage, new)
    _let_a_first_try_fail(stage)
    cleared = _clear(stage, new)
    again = _run_again(stage, new)
    eventually(lambda: datetime.now(UTC) > paused_at + 2 * MINUTE, "time passes", seconds=150)
    eventually(
        lambda: SLA_MISS_2 in _logs(stage.airflows["2.11"]), "Airflow 2 sees the miss", seconds=120
    )
    return _ending(stage, paused_at, cleared, again)


def _pause(stage: Stage, airflow: Airflow) -> datetime:
    """Pause a topic's DAG while none of its runs is under way."""
    count = len(stage.documents(mirror="oasis", topic="clicks"))
    stage.wait_for(count + 1, seconds=100, mirror="oasis", topic="clicks")
    done = airflow.run("dags", "pause", "consumer_lag.oasis.clicks")
    assert done.code == 0, done.stdout + done.stderr
    return datetime.now(UTC)


def _let_a_first_try_fail(stage: Stage) -> None:
    """Take the SSH server away for the first try of a run, and give it back for the second."""
    before = len(stage.documents(mirror="flaky", event__outcome="success"))
    stage.lab.openssh.stop()
    stage.wait_for(1, seconds=120, mirror="flaky", event__outcome="failure")
    stage.lab.openssh.start()
    stage.wait_for(before + 1, seconds=60, mirror="flaky", event__outcome="success")


def _clear(stage: Stage, airflow: Airflow) -> tuple[str, dict[str, Any]]:
    """Clear the oldest run of topic orders and wait until it has run again."""
    oldest = stage.documents(mirror="oasis", topic="orders")[0]
    run_id = oldest["airflow"]["run_id"]
    at = oldest["airflow"]["scheduled_at"]
    done = airflow.run("tasks", "clear", "-y", "-s", at, "-e", at, "consumer_lag.oasis.orders")
    assert done.code == 0, done.stdout + done.stderr
    stage.wait_for(2, seconds=90, mirror="oasis", topic="orders", airflow__run_id=run_id)
    return run_id, oldest


def _run_again(stage: Stage, airflow: Airflow) -> dict[str, Any]:
    """Run topic payments by hand, and its oldest minute as a backfill; return its document."""
    oldest = stage.documents(mirror="oasis", topic="payments")[0]
    dag_id, at = "consumer_lag.oasis.payments", oldest["airflow"]["scheduled_at"]
    backfill = ("--dag-id", dag_id, "--from-date", at, "--to-date", at)
    for words in (
        ("dags", "trigger", dag_id),
        ("backfill", "create", *backfill, "--reprocess-behavior", "completed"),
    ):
        done = airflow.run(*words)
        assert done.code == 0, done.stdout + done.stderr
    for run_type in ("manual", "backfill"):
        stage.wait_for(1, seconds=120, mirror="oasis", topic="payments", airflow__run_type=run_type)
    return oldest


def _logs(airflow: Airflow) -> str:
    """Return the text of all logs: of the processes, the tasks, and the DAG files' (2.11)."""
    folders = (airflow.log_folder, airflow.home)
    files = [*airflow.logs, *(file for folder in folders for file in folder.rglob("*.log"))]
    return "\n".join(file.read_text(errors="replace") for file in files)


def _ending(
    stage: Stage,
    paused_at: datetime,
    cleared: tuple[str, dict[str, Any]],
    again: dict[str, Any],
) -> Story:
    new, old = stage.airflows["3.3"], stage.airflows["2.11"]
    runs = new.run("dags", "list-runs", "consumer_lag.oasis.orders", "--output", "json")
    import_errors = {
        version: airflow.run("dags", "list-import-errors", "--output", "json").stdout
        for version, airflow in (("3.3", new), ("2.11", old))
    }
    return Story(
        paused_at=paused_at,
        cleared=cleared,
        again=again,
        hits=search(stage.elasticsearch, index=INDEX),
        runs=json.loads(runs.stdout[runs.stdout.index("[{") :]),
        import_errors=import_errors,
        logs={"3.3": _logs(new), "2.11": _logs(old)},
    )


def test_each_topic_and_minute_has_one_document(story: Story) -> None:
    """From the first to the last no minute of a topic is missing and none is doubled."""
    for topic in ("orders", "payments"):
        documents = story.documents(mirror="oasis", topic=topic, airflow__run_type="scheduled")
        first_of_run = {one["airflow"]["run_id"]: one for one in documents}.values()
        due = Counter(
            datetime.fromisoformat(one["airflow"]["scheduled_at"]) for one in first_of_run
        )
        minutes = int((max(due) - min(due)) / MINUTE) + 1
        assert len(due) == minutes >= 5
        assert set(due.values()) == {1}
        again = 1 if topic == "orders" else 0
        assert len(documents) == minutes + again
        assert {one["event"]["outcome"] for one in documents} == {"success"}


def test_every_run_that_airflow_counts_has_its_document(story: Story) -> None:
    """Airflow's own list of ended runs is found again in Elasticsearch, run by run."""
    ended = {run["run_id"] for run in story.runs if run["state"] == "success"}
    stored = {one["airflow"]["run_id"] for one in story.documents(mirror="oasis", topic="orders")}
    assert ended
    assert ended <= stored


def test_pausing_a_topics_dag_stops_its_documents_alone(story: Story) -> None:
    """After the switch is off nothing more comes of that topic, and the others go on."""
    last = {
        topic: max(
            datetime.fromisoformat(one["airflow"]["scheduled_at"])
            for one in story.documents(mirror="oasis", topic=topic)
        )
        for topic in TOPICS
    }
    assert last["clicks"] <= story.paused_at
    assert last["orders"] > story.paused_at + MINUTE / 2
    assert last["payments"] > story.paused_at + MINUTE / 2


def test_a_failed_first_try_leaves_one_document_the_success_of_the_second(story: Story) -> None:
    """The run whose first try found no SSH server has one document, of its second try."""
    retried = story.documents(mirror="flaky", airflow__try_number=2)
    assert [one["event"]["outcome"] for one in retried] == ["success"]
    (document,) = retried
    run_id = document["airflow"]["run_id"]
    assert len(story.documents(mirror="flaky", airflow__run_id=run_id)) == 1


def test_a_cleared_run_has_a_document_of_its_own(story: Story) -> None:
    """Clearing a run adds a document and leaves the old one as it was."""
    run_id, old = story.cleared
    documents = story.documents(mirror="oasis", topic="orders", airflow__run_id=run_id)
    assert len(documents) == 2
    assert old in documents
    (new,) = [one for one in documents if one != old]
    assert new["event"]["outcome"] == "success"
    assert new["@timestamp"] > old["@timestamp"]


def test_runs_by_hand_and_backfills_touch_no_scheduled_runs_document(story: Story) -> None:
    """They have documents of their own; that of the minute that was backfilled is as it was."""
    assert story.again["airflow"]["run_type"] == "scheduled"
    assert story.again in story.documents(mirror="oasis", topic="payments")
    for run_type in ("manual", "backfill"):
        (document,) = story.documents(mirror="oasis", topic="payments", airflow__run_type=run_type)
        assert document["event"]["outcome"] == "success"
    at = story.again["airflow"]["scheduled_at"]
    both = story.documents(mirror="oasis", topic="payments", airflow__scheduled_at=at)
    assert sorted(one["airflow"]["run_type"] for one in both) == ["backfill", "scheduled"]


@pytest.mark.parametrize(("version", "name"), [("3.3", "oasis"), ("2.11", "old")])
def test_a_mistake_in_one_mirror_stops_no_other_and_is_shown(
    story: Story, version: str, name: str
) -> None:
    """The other mirrors were scheduled, and the mistake is an import error with its line."""
    assert len(story.documents(mirror=name, event__outcome="success")) >= 2
    assert not story.documents(mirror="broken")
    (error,) = json.loads(story.import_errors[version][story.import_errors[version].index("[{") :])
    assert error["filepath"].endswith("mirror_lag_check.py")
    text = json.dumps(error)
    assert "mirrors.broken.topics.orders.max_lag" in text
    assert "mirrors.yaml:" in text


def test_layout_mirror_on_airflow_2_stores_each_topic_each_minute(story: Story) -> None:
    """On 2.11 each minute has one document a topic, success or failure."""
    for topic in ("orders", "clicks"):
        documents = story.documents(mirror="old", topic=topic)
        due = sorted(datetime.fromisoformat(one["airflow"]["scheduled_at"]) for one in documents)
        assert len(set(due)) == len(due) == int((due[-1] - due[0]) / MINUTE) + 1


def test_a_missed_sla_is_one_clear_line(story: Story) -> None:
    """On 2.11 the log says which topic of which DAG was late; for 3.3 see test_layouts.py."""
    assert SLA_MISS_2 in story.logs["2.11"]


def test_an_sla_that_was_met_is_not_mentioned(story: Story) -> None:
    """Runs that were in time, and minutes for which nothing was due, raise no alarm."""
    assert "SLA missed in DAG consumer_lag.oasis.clicks" not in story.logs["3.3"]
    assert "no snapshot in time for clicks" not in story.logs["2.11"]


def test_no_secret_is_in_any_log(story: Story, lab: Laboratory) -> None:
    """Neither the password of Elasticsearch nor the key of the host was logged anywhere."""
    for text in story.logs.values():
        assert WRITER.password not in text
        assert lab.sshd.keys.key_text.splitlines()[1] not in text
