"""The document of a run that Airflow ended: when it is left, what it says, what it never does.

How each version of Airflow calls the callback is the matter of the integration tests.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    BaseOperator,
)

from airflow_lag_provider import ended
from airflow_lag_provider.documents import Document
from airflow_lag_provider.doors import run_of
from airflow_lag_provider.ended import RecordedFailure, ended_by_airflow, run_ended_by_airflow
from airflow_lag_provider.errors import (
    BrokerUnreachable,
    DocumentRefused,
    GroupNotFound,
)
from airflow_lag_provider.hooks import elasticsearch_spool
from airflow_lag_provider.operators.lag import SSHLagOperator
from airflow_lag_provider.run import ENDED_VERSION

DUE = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)
DAG_RUN = SimpleNamespace(
    run_id="scheduled__13:35",
    run_type="scheduled",
    start_date=DUE + timedelta(seconds=1),
    run_after=DUE,
)
TI = SimpleNamespace(dag_id="consumer_lag.oasis", task_id="all_topics", try_number=2)


class Store:
    """Stands in for Elasticsearch.

    :param fate: why each document alone is not written.
    :param indices: connection and index of each request.
    """

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self.fate: Any = None
        self.indices: list[tuple[str, str]] = []

    async def write(
        self,
        *documents: Document,
        elasticsearch_conn_id: str,
        index: str,
        patience: float | None = None,
    ) -> tuple[Any, ...]:
        self.indices.append((elasticsearch_conn_id, index))
        self.documents += documents
        return (self.fate,) * len(documents)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr(elasticsearch_spool, "store", store.write)
    monkeypatch.setattr(ended, "_spent", 0.0)
    return store


def task(**changes: Any) -> SSHLagOperator:
    arguments = {
        "task_id": "all_topics",
        "topics": ["orders", "clicks"],
        "mirror": "oasis",
        "group": "oasis-group",
        "bootstrap_servers": "b-1:9092",
        "elasticsearch_conn_id": "es",
        "index": "lag-%Y",
    }
    return SSHLagOperator(**{**arguments, **changes})


def context(**changes: Any) -> dict[str, Any]:
    """Return what the DAG processor of Airflow 3 has for a task that the scheduler failed."""
    return {"task": task(), "ti": TI, "dag_run": DAG_RUN, "data_interval_end": DUE, **changes}


def test_each_topic_of_the_task_gets_a_document_of_its_run(store: Store) -> None:
    """Identity and index are those of the run's other documents; unknown figures are null."""
    ended_by_airflow(context())
    run = run_of(DAG_RUN, TI, interval_end=DUE)
    assert [one.id for one in store.documents] == [
        run.document_id(mirror="oasis", topic=topic) for topic in ("orders", "clicks")
    ]
    assert {one.version for one in store.documents} == {ENDED_VERSION}
    assert store.indices == [("es", "lag-2026")]
    source = dict(store.documents[0].source)
    assert datetime.fromisoformat(source.pop("@timestamp")) > DUE
    message = source["error"].pop("message")
    assert message.startswith("Airflow ended the task: its process was lost")
    assert source == {
        "topic": "orders",
        "mirror": "oasis",
        "group": "oasis-group",
        "error": {"type": "EndedByAirflow"},
        "event": {"outcome": "failure", "duration": None, "delay": None},
        "airflow": run.to_document(),
    }


@pytest.mark.parametrize(
    ("exception", "words"),
    [
        (AirflowException("Trigger timeout"), "AirflowException: Trigger timeout. Look"),
        ("Executor says failed", "the task: Executor says failed. Look"),
        (SystemExit(), "the task: SystemExit"),
    ],
)
def test_what_airflow_says_of_the_reason_is_in_the_message(
    store: Store, exception: Any, words: str
) -> None:
    """On a worker it is an exception, in the DAG processor of 2.11 a text."""
    ended_by_airflow(context(exception=exception))
    assert words in store.documents[0].source["error"]["message"]


def failed_for_good() -> AirflowFailException:
    error = AirflowFailException("GroupNotFound: No.")
    error.__cause__ = GroupNotFound("No.")
    return error


@pytest.mark.parametrize(
    "ours",
    [
        {"exception": BrokerUnreachable("No.")},
        {"exception": failed_for_good()},
        {"exception": RecordedFailure("BrokerUnreachable: No.")},
        {"exception": None},
        {"dag_run": None},
    ],
)
def test_what_our_own_code_ended_leaves_nothing_more(store: Store, ours: dict[str, Any]) -> None:
    """Of a failure that operator or trigger met the document is there, or can't be written."""
    ended_by_airflow(context(**ours))
    assert store.indices == []


def test_airflow_3_tells_nothing_of_the_run_of_what_a_trigger_ended(store: Store) -> None:
    """There the context has no dag_run at all."""
    given = context()
    del given["dag_run"]
    ended_by_airflow(given)
    assert store.indices == []


def test_templates_that_nobody_has_rendered_are_rendered_for_the_run(store: Store) -> None:
    """The DAG processor gives the task as it is written, the same one for all its runs."""
    dag = DAG("a", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC))
    templated = task(dag=dag, topics=["{{ params.topic }}", "clicks"])
    for topic in ("orders", "payments"):
        ended_by_airflow(context(task=templated, params={"topic": topic}))
    assert [one.source["topic"] for one in store.documents] == [
        *("orders", "clicks"),
        *("payments", "clicks"),
    ]


@pytest.mark.parametrize(
    "problem",
    [
        {"task": task(group="{{ nobody.knows }}")},
        {"task": SimpleNamespace(task_id="mail")},
        {"dag_run": SimpleNamespace(run_id="r")},
    ],
)
def test_it_raises_nothing_and_says_what_is_wrong(
    store: Store, caplog: pytest.LogCaptureFixture, problem: dict[str, Any]
) -> None:
    """A callback that fails must not cost the other callbacks of its batch anything."""
    ended_by_airflow(context(**problem))
    assert store.indices == []
    assert "No document could be left" in caplog.text


def test_a_document_that_is_refused_is_named_with_its_reason(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Each callback says for itself what it could not write."""
    store.fate = DocumentRefused("Field p0 is a date.")
    for _ in range(2):
        ended_by_airflow(context())
    assert caplog.text.count("Field p0 is a date.") == 2


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Elasticsearch, or Airflow before it, doesn't answer; returns how many documents wait."""
    waited = []

    async def write(*documents: Document, **_: Any) -> Any:
        waited.append(len(documents))
        await asyncio.sleep(60)

    monkeypatch.setattr(elasticsearch_spool, "write", write)
    monkeypatch.setattr(ended, "_spent", 0.0)
    return waited


def test_where_elasticsearch_hangs_the_documents_wait_in_the_spool(
    waited: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The callback's own limit ends the attempt, not the document; the next one waits for none."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("AIRFLOW__LAG__SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setattr(ended, "_LIMIT_SECONDS", 0.05)
    spool = elasticsearch_spool.configured_spool()
    assert spool
    try:
        for run_id in ("first", "second"):
            ended_by_airflow(
                context(dag_run=SimpleNamespace(**{**vars(DAG_RUN), "run_id": run_id}))
            )
        lines = [line for path in spool.files() for line in path.read_bytes().splitlines()]
    finally:
        spool.release()
    kept = [json.loads(line)["source"] for line in lines]
    assert waited == [2]
    assert [(one["airflow"]["run_id"], one["topic"]) for one in kept] == [
        *(("first", "orders"), ("first", "clicks")),
        *(("second", "orders"), ("second", "clicks")),
    ]
    assert {one["error"]["type"] for one in kept} == {"EndedByAirflow"}
    assert caplog.text.count("Those without a document got one: orders, clicks.") == 2
    assert "No document could be left" not in caplog.text


def test_where_elasticsearch_hangs_the_callbacks_of_a_process_end_in_time(
    waited: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a spool the first takes all the time, and the runs of the others are named."""
    monkeypatch.setattr(ended, "_TOGETHER_SECONDS", 0.02)
    for _ in range(4):
        ended_by_airflow(context())
    assert waited == [2]
    assert "took nothing in the time there was" in caplog.text
    left = "no document is left of the run scheduled__13:35 of DAG consumer_lag.oasis"
    assert caplog.text.count(left) == 3


@pytest.mark.parametrize("hangs", [0, 60])
def test_what_waits_in_the_spool_is_sent_before_the_callback_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hangs: float
) -> None:
    """Within the same limit; when that doesn't end, the documents left are there all the same."""
    caplog.set_level(logging.INFO)
    settled = []

    async def settle() -> None:
        settled.append(len(store.documents))
        await asyncio.sleep(hangs)

    monkeypatch.setattr(elasticsearch_spool, "settle", settle)
    monkeypatch.setattr(ended, "_TOGETHER_SECONDS", 0.2)
    ended_by_airflow(context())
    assert settled == [2]
    assert "Those without a document got one: orders, clicks." in caplog.text
    assert "No document could be left" not in caplog.text


def test_one_task_that_can_not_be_read_costs_the_others_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a run that failed every other task gets its documents."""
    dag = DAG("consumer_lag.oasis", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC))
    task(dag=dag, task_id="a", topics=["{{ nobody.knows }}"])
    task(dag=dag, task_id="b", topics=["clicks"])
    run_ended_by_airflow(context(dag=dag, reason="task_failure"))
    assert [one.source["topic"] for one in store.documents] == ["clicks"]
    assert "No document could be left of task a" in caplog.text


def test_one_task_whose_document_is_refused_costs_the_others_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are still being written when it is known, and their event loop waits for them."""

    async def write(*documents: Document, **_: Any) -> tuple[Any, ...]:
        if documents[0].source["topic"] == "orders":
            return (DocumentRefused("Field p0 is a date."),)
        await asyncio.sleep(0.02)
        store.documents += documents
        return (None,)

    monkeypatch.setattr(elasticsearch_spool, "store", write)
    dag = DAG("consumer_lag.oasis", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC))
    for topic in ("orders", "clicks"):
        task(dag=dag, task_id=topic, topics=[topic])
    run_ended_by_airflow(context(dag=dag, reason="task_failure"))
    assert [one.source["topic"] for one in store.documents] == ["clicks"]
    assert "Field p0 is a date." in caplog.text


def test_when_a_run_failed_each_of_its_tasks_gets_its_documents(store: Store) -> None:
    """Airflow names one task; of the others the try isn't known. Tasks of others are left alone."""
    dag = DAG("consumer_lag.oasis", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC))
    for topic in ("orders", "clicks"):
        task(dag=dag, task_id=topic, topics=[topic])
    BaseOperator(dag=dag, task_id="mail")
    ti = SimpleNamespace(dag_id="consumer_lag.oasis", task_id="clicks", try_number=2)
    run_ended_by_airflow(context(dag=dag, ti=ti, task=dag.get_task("clicks"), reason="timed_out"))
    found = {one.source["topic"]: one.source for one in store.documents}
    assert [(topic, it["airflow"]["task_id"]) for topic, it in sorted(found.items())] == [
        ("clicks", "clicks"),
        ("orders", "orders"),
    ]
    assert found["clicks"]["airflow"]["try_number"] == 2
    assert found["orders"]["airflow"]["try_number"] is None
    assert "timed_out" in found["orders"]["error"]["message"]


def test_a_run_of_which_airflow_tells_nothing_is_named_in_the_log(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its start no document of it can be told from another's."""
    run_ended_by_airflow({"dag": None, "run_id": "scheduled__13:35", "reason": "task_failure"})
    assert store.indices == []
    assert "scheduled__13:35" in caplog.text


def test_it_says_in_the_log_what_it_did(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Run, task, reason and topics stand in the log of the process that called it."""
    with caplog.at_level(logging.INFO):
        ended_by_airflow(context(exception="lost"))
    for word in ("scheduled__13:35", "consumer_lag.oasis", "lost", "orders, clicks"):
        assert word in caplog.text
