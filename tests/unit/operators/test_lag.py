"""SSHLagOperator: arguments, templates, the run it reads from the context, its result."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_lag_provider import observe as pipeline
from airflow_lag_provider.documents import Document
from airflow_lag_provider.doors import command_of, run_of
from airflow_lag_provider.errors import (
    BrokerUnreachable,
    ElasticsearchUnreachable,
    GroupNotFound,
    LagError,
)
from airflow_lag_provider.observation import Observation, StoredSnapshot
from airflow_lag_provider.operators.lag import SSHLagOperator
from airflow_lag_provider.snapshot import PartitionLag, TopicSnapshot
from airflow_lag_provider.triggers.lag import LagTrigger
from airflow_lag_provider.watch import Watch

DUE = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)


def operator(**changes: Any) -> SSHLagOperator:
    arguments = {
        "task_id": "orders",
        "topic": "orders",
        "group": "oasis-group",
        "bootstrap_servers": ["b-1:9092"],
    }
    return SSHLagOperator(**{**arguments, **changes})


def context(**changes: Any) -> Any:
    dag_run = SimpleNamespace(
        run_id="scheduled__13:35",
        run_type=SimpleNamespace(value="scheduled"),
        start_date=DUE + timedelta(seconds=1),
        run_after=DUE,
    )
    ti = SimpleNamespace(dag_id="consumer_lag.oasis.orders", task_id="orders", try_number=2)
    return {"dag_run": dag_run, "ti": ti, "data_interval_end": DUE, **changes}


def ends_with(monkeypatch: pytest.MonkeyPatch, result: Any, *others: LagError) -> None:
    async def observe(*_: Any) -> Observation:
        if isinstance(result, LagError):
            return Observation((), ("orders",), result, others)
        return Observation(tuple(result))

    monkeypatch.setattr(pipeline, "observe", observe)


@pytest.mark.parametrize("arguments", [{"topic": None}, {"topics": ["clicks"]}])
def test_it_takes_exactly_one_of_topic_and_topics(arguments: dict[str, Any]) -> None:
    """Neither and both are refused when the DAG is written."""
    with pytest.raises(ValueError, match="either"):
        operator(**arguments)


def test_every_template_field_is_an_argument_kept_as_it_was_given() -> None:
    """Airflow renders the fields in place, so nothing may be derived from them before."""
    task = operator(group="{{ params.group }}", index="lag-{{ ds_nodash }}")
    assert task.group == "{{ params.group }}"
    assert all(hasattr(task, field) for field in task.template_fields)


def test_values_are_quoted_after_airflow_has_rendered_them() -> None:
    """A rendered value is one word of the command, whatever it holds."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    task = operator(
        dag=DAG("a", schedule=None, start_date=start),
        topic=None,
        topics=["{{ name }}", "clicks"],
        group="{{ group }}",
        bootstrap_servers="{{ servers }}",
        index="lag-{{ name }}",
    )
    task.render_template_fields(
        {"group": "a b; rm -rf /", "name": "orders", "servers": "b-1:9092,b-2:9092"}
    )
    watch = task.watch()
    assert "--group 'a b; rm -rf /' --timeout" in watch.command
    assert watch.bootstrap_servers == ("b-1:9092", "b-2:9092")
    assert watch.topics == ("orders", "clicks")
    assert watch.index == "lag-orders"


def test_lists_may_come_as_a_text_with_commas() -> None:
    """Templates make texts, so brokers and topics are taken in that form too."""
    task = operator(topic=None, topics="orders, clicks", bootstrap_servers="b-1:9092,b-2:9092")
    assert task.watch().topics == ("orders", "clicks")
    assert task.watch().bootstrap_servers == ("b-1:9092", "b-2:9092")


def test_the_mirror_is_named_after_its_group_unless_it_has_a_name() -> None:
    """Documents of an operator outside the factory have a mirror too."""
    assert operator().watch().mirror == "oasis-group"
    assert operator(mirror="oasis").watch().mirror == "oasis"


def test_the_time_limit_may_be_seconds_or_a_timedelta() -> None:
    """Both forms that Airflow users write mean the same."""
    assert operator(timeout=30).watch().timeout == 30
    assert operator(timeout=timedelta(seconds=30)).watch().timeout == 30


def test_the_run_is_that_of_the_context() -> None:
    """Run type, try, scheduled instant and start come from Airflow's context."""
    run = run_of(context()["dag_run"], context()["ti"], interval_end=DUE)
    assert (run.run_type, run.try_number, run.scheduled_at) == ("scheduled", 2, DUE)
    assert run.started_at == DUE + timedelta(seconds=1)


def test_a_run_without_an_interval_was_due_when_it_could_run() -> None:
    """Runs of Airflow 3 that somebody triggers without a date have run_after alone."""
    run = run_of(context()["dag_run"], context()["ti"], interval_end=None)
    assert run.scheduled_at == DUE


def test_the_result_is_a_summary_without_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The XCom has topic, command, lag.total, lag.max, index and document id, and no rows."""
    row = PartitionLag("orders", 0, 90, 100, 10)
    snapshot = TopicSnapshot("oasis", "oasis-group", "orders", DUE, "active", (row,))
    ends_with(monkeypatch, [StoredSnapshot(snapshot, "abc", "consumer_lag")])
    result = operator().execute(context())
    assert result == {
        "topic": "orders",
        "command": operator().watch().command,
        "lag": {"total": 10, "max": 10},
        "index": "consumer_lag",
        "document_id": "abc",
    }


def test_the_archive_is_in_the_command_but_not_in_every_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand topics a minute would otherwise store a gigabyte of the same text each day."""
    row = PartitionLag("orders", 0, 90, 100, 10)
    snapshot = TopicSnapshot("oasis", "oasis-group", "orders", DUE, "active", (row,))
    ends_with(monkeypatch, [StoredSnapshot(snapshot, "abc", "consumer_lag")])
    task = operator(class_data_archive="/var/lag")
    assert " /var/lag " in task.watch().command
    result = task.execute(context())
    assert result is not None
    assert result["command"] == operator().watch().command


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (BrokerUnreachable("No broker."), BrokerUnreachable),
        (GroupNotFound("No group."), AirflowFailException),
    ],
)
def test_only_what_a_retry_can_help_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: LagError, raised: type[Exception]
) -> None:
    """A retriable error goes to Airflow as it is, any other ends the task at once, with words."""
    ends_with(monkeypatch, error)
    with pytest.raises(raised, match=r"No (broker|group)\. Check"):
        operator().execute(context())


@pytest.mark.parametrize("values", [{"jvm_opts": None}, {"group": 5}, {"topics": ["a", "b"]}])
def test_an_argument_that_is_no_text_is_named_and_leaves_documents(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    """A native template or a variable gives anything; no log line fails on it before the check."""
    written: list[Document] = []

    async def store(*documents: Document, **_: Any) -> Any:
        written.extend(documents)
        return (None,) * len(documents)

    monkeypatch.setattr(pipeline, "store", store)
    one = {"topic": None} if "topics" in values else {}
    task = operator(**{"jvm_opts": None, **one, **values})
    given = context()
    pushed: list[Any] = []
    given["ti"].xcom_push = lambda key, value: pushed.append(value)
    with pytest.raises(AirflowFailException, match="InvalidRequest: .*is not text"):
        task.execute(given)
    assert {one.source["error"]["type"] for one in written} == {"InvalidRequest"}
    assert [one["command"] for one in pushed] == [command_of(task.watch())] * len(pushed)
    assert "can't be used" in command_of(task.watch())


def test_an_unwritten_document_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure itself is final, but nobody would ever see it in Elasticsearch."""
    ends_with(monkeypatch, GroupNotFound("No group."), ElasticsearchUnreachable("No connection."))
    with pytest.raises(GroupNotFound):
        operator().execute(context())


@pytest.mark.parametrize("topics", [["orders", "clicks"], ["orders"]])
def test_a_task_of_several_topics_hands_on_counts_and_failures_though_it_fails(
    monkeypatch: pytest.MonkeyPatch, topics: list[str]
) -> None:
    """The XCom is pushed before the error is raised, else it would be lost; also if one is left."""

    async def observe(*_: Any) -> Observation:
        return Observation((), tuple(topics), GroupNotFound("No group."))

    monkeypatch.setattr(pipeline, "observe", observe)
    pushed: dict[str, Any] = {}
    task = operator(topic=None, topics=topics)
    given = context()
    given["ti"].xcom_push = lambda key, value: pushed.update({key: value})
    with pytest.raises(AirflowFailException):
        task.execute(given)
    assert pushed == {
        "return_value": {
            "command": task.watch().command,
            "stored": 0,
            "failed": topics,
        }
    }


def test_a_deferrable_task_starts_in_the_triggerer() -> None:
    """The scheduler gets the trigger and its arguments, plain values that JSON can hold."""
    task = operator(
        deferrable=True,
        timeout=timedelta(seconds=20),
        mirrors_file="/m.yaml",
        class_data_archive="/var/lag",
    )
    assert task.start_from_trigger is True
    arguments = task.start_trigger_args
    assert arguments.trigger_cls == "airflow_lag_provider.triggers.lag.LagTrigger"
    assert json.loads(json.dumps(arguments.trigger_kwargs)) == arguments.trigger_kwargs
    # Airflow would render an argument with the name of a templated field, in the event loop.
    assert not set(arguments.trigger_kwargs) & set(task.template_fields)
    trigger = LagTrigger(**arguments.trigger_kwargs)
    assert trigger.serialize() == (arguments.trigger_cls, arguments.trigger_kwargs)
    assert Watch.from_json(trigger.watch) == task.watch()
    assert task.watch().timeout == 20.0
    assert hasattr(task, arguments.next_method)


def test_a_task_that_is_not_deferrable_stays_on_the_worker() -> None:
    """Nothing reaches the triggerer unless it is asked for, here or in Airflow's settings."""
    assert operator().start_from_trigger is False
    assert operator(deferrable=False).start_trigger_args is None


def test_a_task_with_templates_goes_to_a_worker() -> None:
    """The triggerer renders none (2.11), or by other rules than the DAG's (3.3)."""
    task = operator(deferrable=True, bootstrap_servers=["{{ var.value.broker }}"])
    assert task.start_from_trigger is False
    assert operator(deferrable=True).start_from_trigger is (
        AIRFLOW_V_3_3_PLUS or not AIRFLOW_V_3_0_PLUS
    )


def test_what_the_triggerer_sends_on_ends_on_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is raised for Airflow's retries; without one the worker does the work."""
    with pytest.raises(AirflowException, match="BrokerUnreachable: No broker"):
        operator().execute_complete(context(), {"error": "BrokerUnreachable: No broker."})
    ends_with(monkeypatch, GroupNotFound("No group."))
    with pytest.raises(AirflowFailException, match="GroupNotFound"):
        operator().execute_complete(context(), {})
