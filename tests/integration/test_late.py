"""Which topics of a run have no snapshot, asked of a real Elasticsearch with roles."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_lag_provider.late import Late, late_topics
from tests.integration.support import Bench, context

pytestmark = pytest.mark.integration

TOPICS = ("orders", "not-mirrored", "clicks")


def run(bench: Bench, *topics: str) -> dict[str, Any]:
    """Take snapshots of topics; return the DAG run as a deadline's context has it."""
    now = context("scheduled__1")
    dag_run = now["dag_run"]
    for topic in topics:
        # What becomes of it is asked of Elasticsearch.
        with suppress(AirflowException):
            bench.operator(topic=topic).execute(now)
    return {
        "dag_run_id": dag_run.run_id,
        "start_date": _as_airflow_writes(dag_run.start_date),
        "run_after": _as_airflow_writes(dag_run.run_after),
        "data_interval_end": None,
    }


def _as_airflow_writes(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def late(dag_run: dict[str, Any], index: str = "consumer_lag") -> Late:
    return asyncio.run(
        late_topics(
            dag_run, mirror="oasis", topics=TOPICS, elasticsearch_conn_id="elastic", index=index
        )
    )


def test_topics_without_a_document_and_with_a_failure_are_late(bench: Bench) -> None:
    """One topic is stored, one failed, one was never looked at: the last two are late."""
    dag_run = run(bench, "orders", "not-mirrored")
    assert late(dag_run) == Late(("not-mirrored", "clicks"), {"not-mirrored": "TopicNotInGroup"})


def test_a_document_counts_before_it_can_be_searched(bench: Bench) -> None:
    """A snapshot that was written just before the deadline raises no false alarm."""
    dag_run = run(bench, "orders")
    bench.elasticsearch.request(
        "PUT", "/consumer_lag/_settings", {"index": {"refresh_interval": "-1"}}
    )
    dag_run = run(bench, "clicks")
    count = bench.elasticsearch.request("GET", "/consumer_lag/_count")["count"]
    assert count == 1, "the second document can already be searched"
    assert late(dag_run).topics == ("orders", "not-mirrored")


def test_another_start_of_the_same_run_is_another_document(bench: Bench) -> None:
    """After the run was cleared, what it stored before doesn't count."""
    dag_run = run(bench, "orders")
    cleared = datetime.fromisoformat(dag_run["start_date"]) + timedelta(microseconds=1)
    assert "orders" in late({**dag_run, "start_date": _as_airflow_writes(cleared)}).topics
    assert "orders" not in late(dag_run).topics


def test_without_an_index_all_topics_are_late(bench: Bench) -> None:
    """Before the first document is written, it is known that there is none."""
    assert late(run(bench), index="consumer_lag-%Y-none") == Late(TOPICS)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("closed", "DocumentUnreadable"),
        ("password", "ElasticsearchAccessDenied"),
        ("away", "ElasticsearchUnreachable"),
        ("right", "DocumentUnreadable"),
    ],
)
def test_where_elasticsearch_can_not_say_all_may_be_late(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: str, kind: str
) -> None:
    """A closed index, a wrong password, nobody there, a missing right: the reason is told."""
    dag_run = run(bench, "orders")
    changes = {"password": {"password": "hush-wrong"}, "away": {"port": 1}}.get(fault, {})
    connection = {**bench.connections["elastic"], **changes}
    monkeypatch.setenv("AIRFLOW_CONN_ELASTIC", json.dumps(connection))
    if fault == "closed":
        bench.elasticsearch.request("POST", "/consumer_lag/_close")
    if fault == "right":
        bench.elasticsearch.request("PUT", "/not_ours")
    found = late(dag_run, index="not_ours" if fault == "right" else "consumer_lag")
    assert (found.topics, found.failed) == (TOPICS, {})
    assert found.unchecked is not None
    assert found.unchecked.startswith(f"{kind}: ")
    assert "hush" not in found.unchecked
