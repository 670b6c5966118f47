"""The real scheduler and triggerer of both versions: snapshots that need no worker."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab import client
from lab.airflow import Airflow
from lab.elasticsearch import Elasticsearch
from lab.errors import PartError
from lab.laboratory import Laboratory
from lab.sshd import AsyncsshServer
from tests.integration.support import BINS, WRITER, eventually, mirror, search, write_project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

GROUP = "wide-group"
TOPICS = {"3.3": [f"wide-{n:02}" for n in range(24)], "2.11": [f"wide-{n:02}" for n in range(4)]}
MINUTES = {"3.3": 3, "2.11": 2}
MINUTE = timedelta(minutes=1)
TEMPLATED = """
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG
from airflow_lag_provider.operators.lag import SSHLagOperator

with DAG("templated", schedule="* * * * *", start_date=datetime(2024, 1, 1), catchup=False,
         is_paused_upon_creation=False, params={{"topic": "wide-00"}}):
    SSHLagOperator(
        task_id="snapshot", topic="{{{{ params.topic }}}}", mirror="templated", group="{group}",
        bootstrap_servers="{servers}", ssh_conn_id="mirrormaker", elasticsearch_conn_id="elastic",
        index="{index}", tool="{tool}", deferrable=True,
    )
"""


@dataclass
class Story:
    """What some minutes of one version of Airflow left behind.

    :param documents: all documents of the index.
    :param commands: the commands that the host of the wide group was sent.
    :param connections: how many SSH connections that host saw.
    :param worker_logs: tasks' logs that workers wrote.
    :param log: the text of all logs of Airflow's own processes.
    """

    version: str
    documents: list[dict[str, Any]]
    commands: tuple[str, ...]
    connections: int
    worker_logs: list[str]
    log: str

    def of(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.documents if one["mirror"] == name]


@pytest.fixture(scope="module")
def wide(lab: Laboratory) -> None:
    """A group without members that has committed on two dozen topics."""
    for topic in TOPICS["3.3"]:
        lab.source.create_topic(topic, 3)
    offsets = {(topic, partition): 0 for topic in TOPICS["3.3"] for partition in range(3)}
    client.commit_offsets(lab.source.bootstrap, GROUP, offsets)


@pytest.fixture(scope="module", params=["3.3", "2.11"])
def story(
    request: pytest.FixtureRequest,
    lab: Laboratory,
    wide: None,
    elasticsearch: Elasticsearch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Story:
    version: str = request.param
    host = AsyncsshServer(workspace=lab.workspace, name=f"sshd-wide-{version}")
    host.start()
    index = f"consumer_lag-triggerer-{version}"
    airflow = _airflow(version, lab, host, elasticsearch, index, tmp_path_factory.mktemp("wide"))
    airflow.start()
    try:
        _wait(elasticsearch, index, len(TOPICS[version]) * MINUTES[version], mirror="wide")
        _wait(elasticsearch, index, 1, mirror="away", airflow__try_number=2)
        _wait(elasticsearch, index, 1, mirror="templated", event__outcome="success")
    finally:
        airflow.stop()
        host.stop()
    return Story(
        version=version,
        documents=[hit["_source"] for hit in search(elasticsearch, index=index)],
        commands=tuple(one for one in host.commands() if "templated" not in one),
        connections=host.counts().connections,
        worker_logs=[str(file) for file in airflow.log_folder.rglob("attempt=?.log")],
        log="\n".join(
            file.read_text(errors="replace")
            for file in [*airflow_logs(airflow), *airflow.log_folder.rglob("*.log")]
        ),
    )


def airflow_logs(airflow: Airflow) -> list[Path]:
    """Return the logs of the processes, which are no longer known to it after its end."""
    return sorted(airflow.log_folder.parent.glob(f"{airflow.name}-*.log"))


def _airflow(
    version: str,
    lab: Laboratory,
    host: AsyncsshServer,
    elasticsearch: Elasticsearch,
    index: str,
    folder: Path,
) -> Airflow:
    topics = dict.fromkeys(TOPICS[version])
    wide = mirror(lab, group=GROUP, ssh_conn_id="wide", topics=topics, paused=False, retries=0)
    away = mirror(lab, ssh_conn_id="away", paused=False, retries=1, timeout="20s")
    dags = write_project(folder / "project", mirrors={"wide": wide, "away": away}, index=index)
    (dags / "templated.py").write_text(
        TEMPLATED.format(group=GROUP, servers=lab.source.bootstrap, index=index, tool=lab.tool)
    )
    return Airflow(
        workspace=lab.workspace,
        bin=BINS[version],
        dags_folder=dags,
        name=f"triggerer-{version}",
        connections={
            "wide": host.connection(),
            "mirrormaker": lab.sshd.connection(),
            "away": {"conn_type": "ssh", "host": "127.0.0.1", "port": 1, "login": "nobody"},
            "elastic": elasticsearch.connection(WRITER),
        },
        environment={
            "AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP": "100",
            "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "100",
        },
    )


def _wait(elasticsearch: Elasticsearch, index: str, count: int, **terms: Any) -> None:
    def there() -> bool:
        # An index that is being created can't be searched for a moment.
        with suppress(PartError):
            return len(search(elasticsearch, index=index, **terms)) >= count
        return False

    eventually(there, f"{count} of {terms}", seconds=360)


def test_every_topic_has_a_document_every_minute(story: Story) -> None:
    """In the full minutes of the story each topic has one document, a snapshot."""
    documents = story.of("wide")
    due = Counter(one["airflow"]["scheduled_at"] for one in documents)
    # The last minute was cut off by the end of the story.
    full = sorted(due)[: MINUTES[story.version] - 1]
    assert [due[one] for one in full] == [len(TOPICS[story.version])] * len(full)
    instants = [datetime.fromisoformat(one) for one in full]
    assert instants == [instants[0] + MINUTE * n for n in range(len(full))]
    assert {one["event"]["outcome"] for one in documents} == {"success"}
    assert len({(one["topic"], one["airflow"]["scheduled_at"]) for one in documents}) == len(
        documents
    )


def test_a_minute_costs_one_describe_and_all_minutes_one_connection(story: Story) -> None:
    """However many DAGs there are, the host starts one JVM a minute for their group."""
    minutes = {one["airflow"]["scheduled_at"] for one in story.of("wide")}
    assert len(story.commands) - len(minutes) in (0, 1)
    assert story.connections == 1


def test_no_worker_was_used(story: Story) -> None:
    """Not one of the healthy tasks has a worker's log; the trigger's own logs end otherwise."""
    assert not [path for path in story.worker_logs if "consumer_lag.wide" in path]


def test_failures_are_tried_again(story: Story) -> None:
    """The second try of an unreachable host replaces the document of the first, on both."""
    second = [one for one in story.of("away") if one["airflow"]["try_number"] == 2]
    assert second
    assert {one["error"]["type"] for one in second} == {"SSHUnreachable"}


def test_templates_are_rendered_on_a_worker(story: Story) -> None:
    """A task with templates is not for the triggerer, which renders them by other rules."""
    topics = {one["topic"] for one in story.of("templated")}
    assert topics == {"wide-00"}
    on_a_worker = [path for path in story.worker_logs if "templated" in path]
    assert on_a_worker
