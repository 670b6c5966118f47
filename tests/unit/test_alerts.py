"""What Airflow calls when a document is late."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_lag_provider import alerts

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Miss:
    task_id: str
    execution_date: datetime


@dataclass(frozen=True)
class Dag:
    dag_id: str = "consumer_lag.oasis.orders"


def of_five(dag: Any, task_list: Any, blocking_task_list: Any, slas: Any, tis: Any) -> None:
    """A callback as Airflow 2.11 wants it."""


def of_keywords(context: Any, mirror: str, topics: list[str]) -> None:
    """A callback as Airflow 3 calls it."""


async def awaited(**anything: Any) -> None:
    """An asynchronous callback that takes all keywords."""


def of_both(*arguments: Any, **keywords: Any) -> None:
    """A callback that both versions can call."""


def of_more(context: Any, severity: str) -> None:
    """A callback that needs what nobody gives."""


def without_context(mirror: str) -> None:
    """A callback that Airflow 3.1 could not call."""


not_a_function = 3


def test_misses_that_come_together_make_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand misses after a pause are one line that names the latest and counts the rest."""
    slas = [Miss("orders", NOON + timedelta(minutes=n)) for n in range(1000)]
    with caplog.at_level(logging.WARNING):
        alerts.log_sla_miss(Dag(), "ignored", "", slas, [])
    assert len(caplog.messages) == 1
    assert "orders (reported for 2026-11-23 04:39)" in caplog.text
    assert "and 995 earlier" in caplog.text
    assert len(caplog.messages[0]) < 500


def deadline_context(run_type: str) -> dict[str, Any]:
    return {
        "dag_run": {
            "dag_id": "consumer_lag.oasis.orders",
            "dag_run_id": "scheduled__12",
            "run_type": run_type,
            "logical_date": NOON.isoformat(),
            "state": "running",
        }
    }


def test_a_missed_deadline_is_one_line_that_names_topics_and_state(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The line says which topics of which mirror are late, since when, and how the run stands."""
    with caplog.at_level(logging.WARNING):
        asyncio.run(
            alerts.log_deadline_miss(
                context=deadline_context("scheduled"), mirror="oasis", topics=["orders"], sla=90.0
            )
        )
    assert caplog.messages == [
        "SLA missed in DAG consumer_lag.oasis.orders: 90 s after 2026-11-22T12:00:00+00:00 the "
        "run scheduled__12 is running; mirror oasis, topics orders."
    ]


def test_a_run_by_hand_misses_no_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """A manual run or a backfill, whose logical date lies in the past, raises no false alarm."""
    with caplog.at_level(logging.WARNING):
        asyncio.run(
            alerts.log_deadline_miss(
                context=deadline_context("backfill"), mirror="oasis", topics=["orders"], sla=90.0
            )
        )
    assert caplog.messages == []


def test_airflow_2_gets_the_function_itself() -> None:
    """On 2.11 the user's function is called as Airflow calls it; without one, ours is."""
    assert alerts.airflow2_callback(f"{__name__}.of_five") is of_five
    assert alerts.airflow2_callback(None) is alerts.log_sla_miss


def test_airflow_3_gets_the_keywords_that_the_function_takes() -> None:
    """Only what the function names is passed, and everything when it takes everything."""
    given = {"mirror": "oasis", "topics": ["orders"], "sla": 90.0}
    assert alerts.airflow3_keywords(f"{__name__}.of_keywords", given) == {
        "mirror": "oasis",
        "topics": ["orders"],
    }
    assert alerts.airflow3_keywords(f"{__name__}.awaited", given) == given
    assert alerts.airflow3_keywords(f"{__name__}.of_both", given) == given


def test_asynchronous_callbacks_are_known_as_such() -> None:
    """A coroutine function runs in the triggerer, a plain one on a worker."""
    assert alerts.is_async(awaited)
    assert not alerts.is_async(of_keywords)
    assert alerts.is_async(alerts.log_deadline_miss)


@pytest.mark.parametrize(
    ("check", "path", "words"),
    [
        (alerts.airflow2_callback, "no.such.module.function", "can't be imported"),
        (alerts.airflow2_callback, f"{__name__}.missing", "can't be imported"),
        (alerts.airflow2_callback, f"{__name__}.not_a_function", "not a function"),
        (alerts.airflow2_callback, f"{__name__}.of_keywords", "must take Airflow's"),
        (lambda path: alerts.airflow3_keywords(path, {}), f"{__name__}.of_five", "context"),
        (lambda path: alerts.airflow3_keywords(path, {}), f"{__name__}.without_context", "context"),
        (lambda path: alerts.airflow3_keywords(path, {}), f"{__name__}.of_more", "also needs"),
    ],
)
def test_a_callback_that_could_not_be_called_is_refused_early(
    check: Any, path: str, words: str
) -> None:
    """A wrong callback is a mistake when the DAG is parsed, not silence when it is needed."""
    with pytest.raises(ValueError, match=words):
        check(path)
