"""Groups that are empty, rebalancing or gone: a document each minute, whoever takes the snapshot.

What real tools print of them goes through both doors, the operator's and the trigger's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_lag_provider import observe as pipeline
from airflow_lag_provider import recall
from airflow_lag_provider.collect import Collected
from airflow_lag_provider.describe import parse
from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import LagError
from airflow_lag_provider.operators.lag import SSHLagOperator
from airflow_lag_provider.triggers.lag import LagTrigger

FIXTURES = Path(__file__).parent / "fixtures" / "describe"
VERSIONS = ["2.6.2", "3.9.1", "4.3.1"]
DUE = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)
Door = Callable[[SSHLagOperator, datetime], None]


def dag_run(due: datetime) -> Any:
    return SimpleNamespace(
        run_id=f"scheduled__{due}", run_type="scheduled", start_date=due, run_after=due,
        data_interval_end=due,
    )  # fmt: skip


def by_operator(task: SSHLagOperator, due: datetime) -> None:
    ti = SimpleNamespace(dag_id="dag", task_id="orders", try_number=1, xcom_push=lambda **_: None)
    context: Any = {"dag_run": dag_run(due), "ti": ti, "data_interval_end": due}
    with suppress(AirflowException, LagError):
        task.execute(context)


def by_trigger(task: SSHLagOperator, due: datetime) -> None:
    trigger = LagTrigger(watch=task.watch().to_json())
    ti = SimpleNamespace(dag_id="dag", task_id="orders", try_number=1, dag_run=dag_run(due))
    if AIRFLOW_V_3_0_PLUS:
        trigger.render_template_fields({"dag_run": dag_run(due)})
    # Not by its setter, which wants a whole task.
    trigger.__dict__["_task_instance" if AIRFLOW_V_3_0_PLUS else "task_instance"] = ti

    async def end() -> None:
        assert len([event async for event in trigger.run()]) == 1

    asyncio.run(end())


@pytest.fixture(params=[by_operator, by_trigger])
def door(request: pytest.FixtureRequest) -> Door:
    found: Door = request.param
    return found


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch, door: Door) -> Any:
    """Return a function that lets three minutes pass; it returns their documents by topic."""
    documents: list[Document] = []

    async def write(*some: Document, **_: Any) -> tuple[None, ...]:
        documents.extend(some)
        return (None,) * len(some)

    async def latest(*questions: Any, **_: Any) -> tuple[None, ...]:
        return (None,) * len(questions)

    monkeypatch.setattr(pipeline, "store", write)
    monkeypatch.setattr(recall, "latest", latest)
    monkeypatch.setattr(recall, "_memory", {})

    def minutes(stdout: str, stderr: str, *, group: str, topics: list[str]) -> Any:
        async def collect(**_: Any) -> Collected:
            return Collected(parse(stdout, stderr, 0, group=group), DUE)

        monkeypatch.setattr(pipeline, "collect", collect)
        task = SSHLagOperator(
            task_id="orders", topics=topics, group=group, bootstrap_servers="b-1:9092"
        )
        for number in range(3):
            door(task, DUE + timedelta(minutes=number))
        return {
            topic: [one.source for one in documents if one.source["topic"] == topic]
            for topic in topics
        }

    return minutes


def printed(version: str, state: str) -> tuple[str, str]:
    out, err = (FIXTURES / version / f"{state}.{kind}" for kind in ("out", "err"))
    return out.read_bytes().decode(), err.read_bytes().decode()


def kinds(documents: list[Mapping[str, Any]]) -> list[str]:
    return [one["error"]["type"] for one in documents]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_without_members_keeps_its_lag(observed: Any, version: str) -> None:
    """MirrorMaker is down: each minute's document has the lag, topic by topic."""
    topics = ["orders", "payments"]
    found = observed(*printed(version, "empty"), group="oasis-group", topics=topics)
    for topic in topics:
        assert [one["group_state"] for one in found[topic]] == ["empty"] * 3
        assert [one["p17"] for one in found[topic]] == [119] * 3
        assert [one["lag"]["total"] for one in found[topic]] == [7 * 17 * 18 // 2] * 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_rebalancing_group_keeps_its_lag(observed: Any, version: str) -> None:
    """While members come and go the figures are those of the last commits."""
    found = observed(*printed(version, "rebalancing"), group="rebal-group", topics=["payments"])
    assert [one["group_state"] for one in found["payments"]] == ["rebalancing"] * 3
    assert [one["lag"]["total"] for one in found["payments"]] == [0] * 3


@pytest.mark.parametrize("stderr", ["", "Warning: Consumer group 'g' is rebalancing.\n"])
def test_a_group_of_which_nothing_is_printed(observed: Any, stderr: str) -> None:
    """Kafka 2.0 while a group rebalances: a failure each minute, never a lag of nothing."""
    found = observed("\n", stderr, group="g", topics=["orders"])
    assert kinds(found["orders"]) == ["NothingPrinted"] * 3


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("state", ["nogroup", "b4-nogroup"])
def test_a_group_that_is_gone(observed: Any, version: str, state: str) -> None:
    """Each minute's document of each topic says so."""
    found = observed(*printed(version, state), group="no-such-group", topics=["orders", "clicks"])
    for documents in found.values():
        assert kinds(documents) == ["GroupNotFound"] * 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_topic_that_was_deleted(observed: Any, version: str) -> None:
    """The other topic of its group has its figures, the deleted one a reason."""
    found = observed(*printed(version, "deleted"), group="gone-group", topics=["orders", "doomed"])
    assert [one["p0"] for one in found["orders"]] == [45] * 3
    assert kinds(found["doomed"]) == ["TopicNotInGroup"] * 3
    assert not {"p0", "lag", "partitions"} & found["doomed"][0].keys()
