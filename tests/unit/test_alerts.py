"""What Airflow calls when a document is late."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lag_provider import alerts
from airflow_lag_provider.errors import DocumentUnreadable, ElasticsearchUnreachable, StoreError
from airflow_lag_provider.hooks import elasticsearch_spool
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.run import document_id
from airflow_lag_provider.spool import Spool
from airflow_lag_provider.spool_entry import Entry

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STARTED = NOON + timedelta(seconds=1, microseconds=120)
SUCCESS = {"event": {"outcome": "success"}}
FAILURE = {"event": {"outcome": "failure"}, "error": {"type": "TopicNotInGroup"}}


@dataclass(frozen=True)
class Miss:
    task_id: str
    execution_date: datetime


@dataclass(frozen=True)
class Dag:
    dag_id: str = "consumer_lag.oasis.orders"


class Told:
    """Remembers what the user's function was told; raises an error when there is one."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error: Exception | None = None

    async def late(self, **keywords: Any) -> None:
        self.calls.append(keywords)
        if self.error:
            raise self.error


class Store:
    """Stands in for Elasticsearch: the documents of one run by topic.

    :param error: what reading raises.
    """

    def __init__(self) -> None:
        self.documents: dict[str, Mapping[str, Any] | StoreError] = {}
        self.error: Exception | None = None
        self.indices: list[tuple[str, str]] = []

    def outcomes(self, hook: LagElasticsearchHook, *ids: str) -> Any:
        self.indices.append((hook.elasticsearch_conn_id, hook.index))
        if self.error:
            raise self.error
        known = {
            document_id(
                mirror="oasis", topic=topic, run_id="scheduled__12", started_at=STARTED
            ): document
            for topic, document in self.documents.items()
        }
        return tuple(known.get(one) for one in ids)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()

    @asynccontextmanager
    async def session(hook: LagElasticsearchHook) -> AsyncIterator[Any]:
        async def outcomes(*ids: str) -> Any:
            return store.outcomes(hook, *ids)

        yield SimpleNamespace(outcomes=outcomes)

    monkeypatch.setattr(LagElasticsearchHook, "session", session)
    return store


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(f"{__name__}.late", told.late, raising=False)
    return told


def miss(*topics: str, callback: str | None = None, **run: Any) -> None:
    """Let Airflow's triggerer call what it calls after a missed deadline."""
    dag_run = {
        "dag_id": "consumer_lag.oasis",
        "dag_run_id": "scheduled__12",
        "run_type": "scheduled",
        "logical_date": NOON.isoformat(),
        "run_after": "2026-11-22T12:00:00Z",
        "data_interval_end": None,
        "start_date": "2026-11-22T12:00:01.000120Z",
        "state": "running",
        **run,
    }
    asyncio.run(
        alerts.deadline_missed(
            context={"dag_run": dag_run, "deadline": {"id": "1"}},
            mirror="oasis",
            topics=topics,
            sla=90.0,
            elasticsearch_conn_id="es",
            index="lag-%Y.%m",
            callback=callback,
        )
    )


def test_misses_that_come_together_make_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand misses after a pause are one line that names the latest and counts the rest."""
    slas = [Miss("orders", NOON + timedelta(minutes=n)) for n in range(1000)]
    with caplog.at_level(logging.WARNING):
        alerts.log_sla_miss(Dag(), "ignored", "", slas, [])
    assert len(caplog.messages) == 1
    assert "orders (reported for 2026-11-23 04:39)" in caplog.text
    assert "and 995 earlier" in caplog.text
    assert len(caplog.messages[0]) < 500


def test_a_missed_deadline_is_one_line_that_names_the_topics_without_a_snapshot(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The line says which topics are late, which of them failed and why, and how the run stands."""
    store.documents = {"orders": SUCCESS, "clicks": FAILURE}
    with caplog.at_level(logging.WARNING):
        miss("orders", "payments", "clicks")
    assert caplog.messages == [
        "SLA missed in DAG consumer_lag.oasis: no snapshot in time for payments, clicks "
        "(TopicNotInGroup); 90 s after 2026-11-22 12:00:00+00:00 the run scheduled__12 is running; "
        "mirror oasis."
    ]
    assert store.indices == [("es", "lag-2026.11")]


def test_a_function_of_the_user_is_told_the_same_instead(
    store: Store, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets the late topics, those that failed, and Airflow's context; no line is logged."""
    store.documents = {"orders": SUCCESS, "clicks": FAILURE}
    with caplog.at_level(logging.WARNING):
        miss("orders", "payments", "clicks", callback=f"{__name__}.late")
    (call,) = told.calls
    context = call.pop("context")
    assert context["dag_run"]["dag_run_id"] == "scheduled__12"
    assert call == {
        "mirror": "oasis",
        "topics": ["payments", "clicks"],
        "sla": 90.0,
        "failed": {"clicks": "TopicNotInGroup"},
        "unchecked": None,
    }
    assert caplog.messages == []


def test_nobody_is_told_when_all_topics_have_their_snapshots(
    store: Store, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that was closed late, or failed for another topic's sake, raises no false alarm."""
    store.documents = {"orders": SUCCESS, "clicks": SUCCESS}
    with caplog.at_level(logging.INFO):
        miss("orders", "clicks", callback=f"{__name__}.late", state="failed")
    assert told.calls == []
    assert "has a snapshot of orders, clicks" in caplog.text


@pytest.mark.parametrize("start", [None, "2026-11-22T12:00:30.000120Z"])
def test_a_document_of_another_start_of_the_run_does_not_count(
    store: Store, told: Told, start: str | None
) -> None:
    """Before a run starts it has no document, and after it was cleared it needs a new one."""
    store.documents = {"orders": SUCCESS}
    miss("orders", callback=f"{__name__}.late", start_date=start)
    assert [one["topics"] for one in told.calls] == [["orders"]]


def test_an_alert_goes_out_though_nobody_knows_which_topics_are_late(
    store: Store, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """With Elasticsearch away all topics are named, and why it isn't known which are late."""
    store.error = ElasticsearchUnreachable("No connection to Elasticsearch.")
    miss("orders", "clicks", callback=f"{__name__}.late")
    (call,) = told.calls
    assert (call["topics"], call["failed"]) == (["orders", "clicks"], {})
    assert call["unchecked"].startswith("ElasticsearchUnreachable: No connection")
    miss("orders", "clicks")
    (line,) = caplog.messages
    assert "perhaps no snapshot in time for orders, clicks;" in line
    assert "ElasticsearchUnreachable: No connection" in line


def test_a_document_that_can_not_be_read_casts_no_doubt_on_the_others(
    store: Store, told: Told
) -> None:
    """Its topic may be late; what is known of the run's other topics stays known."""
    store.documents = {"orders": SUCCESS, "clicks": DocumentUnreadable("Shard 3 is gone.")}
    miss("orders", "clicks", "payments", callback=f"{__name__}.late")
    (call,) = told.calls
    assert (call["topics"], call["failed"]) == (["clicks", "payments"], {})
    assert call["unchecked"].startswith("DocumentUnreadable: Shard 3 is gone.")


@pytest.mark.parametrize("run_type", ["manual", "backfill", "asset_triggered"])
def test_only_a_scheduled_run_misses_a_deadline(
    store: Store, told: Told, caplog: pytest.LogCaptureFixture, run_type: str
) -> None:
    """A run by hand or a backfill, whose logical date lies in the past, calls nobody."""
    with caplog.at_level(logging.WARNING):
        miss("orders", run_type=run_type)
        miss("orders", run_type=run_type, callback=f"{__name__}.late")
    assert caplog.messages == []
    assert told.calls == []
    assert store.indices == []


def test_when_the_users_function_fails_the_log_has_the_alert(
    store: Store, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """The alert isn't lost, and Airflow hears of the error too."""
    told.error = RuntimeError("no mail server")
    with pytest.raises(RuntimeError, match="no mail server"):
        miss("orders", callback=f"{__name__}.late")
    assert "no snapshot in time for orders" in caplog.text


def test_a_snapshot_that_waits_in_the_spool_is_not_late(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was taken; that Elasticsearch can't be asked matters only for the other topics."""
    waits = document_id(mirror="oasis", topic="orders", run_id="scheduled__12", started_at=STARTED)
    monkeypatch.setattr(elasticsearch_spool, "waiting_snapshots", lambda: frozenset({waits}))
    store.error = ElasticsearchUnreachable("No connection.")
    miss("orders", "clicks")
    assert "perhaps no snapshot in time for clicks;" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        miss("orders")
    assert "but has a snapshot of orders" in caplog.text


def test_while_documents_wait_in_the_spool_an_alert_says_perhaps(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker of this host may have kept the snapshot; another connection's don't matter."""
    monkeypatch.setenv("AIRFLOW__LAG__SPOOL_DIR", str(tmp_path / "spool"))
    spool = Spool(tmp_path / "spool", max_bytes=10**9)
    miss("orders")
    assert ": no snapshot in time for orders;" in caplog.text
    spool.append([Entry(conn_id="other", index="lag", id="1", version=1, source={})])
    caplog.clear()
    miss("orders")
    assert ": no snapshot in time for orders;" in caplog.text
    conn_id = store.indices[0][0]
    spool.append([Entry(conn_id=conn_id, index="lag", id="1", version=1, source={})])
    caplog.clear()
    miss("orders")
    assert "perhaps no snapshot in time for orders;" in caplog.text
    assert "Not known, because documents wait in the spool of this host" in caplog.text
    spool.release()


def test_a_thousand_late_topics_make_one_short_line(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The first are named, the rest are counted."""
    miss(*(f"topic-{number:04}" for number in range(1000)))
    assert "topic-0019 and 980 more;" in caplog.text
    assert len(caplog.messages[0]) < 500
