"""The DAG files in a real Airflow of both versions: tried by hand with `airflow dags test`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.airflow import Airflow
from lab.elasticsearch import Elasticsearch
from lab.laboratory import Laboratory
from tests.integration.conftest import wait_until_mirrored
from tests.integration.support import BINS, WRITER, mirror, search, write_project

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=["3.3", "2.11"])
def airflow(
    request: pytest.FixtureRequest,
    lab: Laboratory,
    elasticsearch: Elasticsearch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Airflow:
    """An Airflow with a database and the project's DAG files, nothing running."""
    topics = {"orders": None, "payments": {"sla": "90s"}, "never-mirrored": None}
    dags = write_project(
        tmp_path_factory.mktemp("project"), mirrors={"oasis": mirror(lab, topics=topics)}
    )
    keys = lab.sshd.keys
    extra = {
        "private_key": keys.protected_key_file.read_text(),
        "private_key_passphrase": keys.passphrase,
        "host_key": keys.host_key,
    }
    airflow = Airflow(
        workspace=lab.workspace,
        bin=BINS[request.param],
        dags_folder=dags,
        name=f"airflow-{request.param}",
        connections={
            "mirrormaker": lab.sshd.connection(extra=extra),
            "elastic": elasticsearch.connection(WRITER),
        },
    )
    airflow.migrate()
    elasticsearch.request("DELETE", "/consumer_lag?ignore_unavailable=true")
    return airflow


@pytest.fixture
def lagging(lab: Laboratory) -> Iterator[Laboratory]:
    """MirrorMaker stopped, with more messages to mirror than it has: a lag that stands still."""
    lab.mirrormaker.stop()
    for partition in range(lab.partitions):
        lab.source.produce("orders", partition, 2 * partition + 1)
    yield lab
    lab.mirrormaker.start()
    wait_until_mirrored(lab)


def test_a_dag_run_by_hand_stores_what_an_independent_client_computes(
    airflow: Airflow, lagging: Laboratory, elasticsearch: Elasticsearch
) -> None:
    """`airflow dags test` ends 0 and leaves one document whose p0 to p17 are the client's lags."""
    done = airflow.run("dags", "test", "consumer_lag.oasis.orders")
    assert done.code == 0, done.stdout + done.stderr
    (hit,) = search(elasticsearch, topic="orders", mirror="oasis", airflow__run_type="manual")
    expected = lagging.source.read_offsets(lagging.group, "orders")
    document = hit["_source"]
    assert [document[f"p{number}"] for number in range(18)] == [
        expected[number].lag for number in range(18)
    ]
    assert document["lag"]["total"] == sum(2 * partition + 1 for partition in range(18))
    assert document["group_state"] == "empty"
    assert document["airflow"]["dag_id"] == "consumer_lag.oasis.orders"
    log = done.stdout + done.stderr
    assert "kafka-consumer-groups.sh --bootstrap-server" in log
    secrets = (WRITER.password, lagging.sshd.keys.passphrase, "PRIVATE KEY")
    assert not [secret for secret in secrets if secret in log]


def test_a_dag_with_an_sla_can_be_tried_by_hand(
    airflow: Airflow, elasticsearch: Elasticsearch
) -> None:
    """`airflow dags test` ends 0 for a topic with an sla, on Airflow 3 too."""
    done = airflow.run("dags", "test", "consumer_lag.oasis.payments")
    assert done.code == 0, done.stdout + done.stderr
    (hit,) = search(elasticsearch, topic="payments")
    assert hit["_source"]["event"]["outcome"] == "success"


def test_a_failing_dag_ends_with_its_reason(airflow: Airflow, elasticsearch: Elasticsearch) -> None:
    """A task without a snapshot fails, and its log and its document say what to do."""
    done = airflow.run("dags", "test", "consumer_lag.oasis.never-mirrored")
    assert done.code != 0
    assert "TopicNotInGroup" in done.stdout + done.stderr
    (hit,) = search(elasticsearch, topic="never-mirrored")
    assert hit["_source"]["error"]["type"] == "TopicNotInGroup"


def test_the_provider_is_listed_and_hides_no_other(airflow: Airflow) -> None:
    """`airflow providers list` shows this provider beside those it builds on."""
    done = airflow.run("providers", "list", "--output", "json")
    names = {one["package_name"] for one in json.loads(done.stdout[done.stdout.index("[{") :])}
    assert names >= {
        "airflow-lag-provider",
        "apache-airflow-providers-ssh",
        "apache-airflow-providers-elasticsearch",
    }


PLAIN_DAG = """
from datetime import datetime, timedelta
from airflow.sdk import DAG, AsyncCallback, BaseOperator, DeadlineAlert, DeadlineReference

class Nothing(BaseOperator):
    def execute(self, context):
        pass

with DAG(
    "plain",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_LOGICAL_DATE,
        interval=timedelta(minutes=5),
        callback=AsyncCallback("airflow_lag_provider.alerts.deadline_missed"),
    ),
):
    Nothing(task_id="nothing")
"""


def test_airflow_still_needs_our_way_around_its_deadline_bug(
    lab: Laboratory, tmp_path: Path
) -> None:
    """Airflow's own DAG with a deadline crashes in `dags test` (apache/airflow#73428).

    When this test fails, Airflow has mended it: delete deadline.DeadlineDAG and this test.
    """
    (tmp_path / "plain.py").write_text(PLAIN_DAG)
    airflow = Airflow(
        workspace=lab.workspace, bin=BINS["3.3"], dags_folder=tmp_path, name="airflow-plain"
    )
    airflow.migrate()
    done = airflow.run("dags", "test", "plain")
    assert done.code != 0, "deadline.DeadlineDAG is no longer needed"
    assert "deadline_alert" in done.stdout + done.stderr
