"""The identity of documents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from airflow_lag_provider import recall
from airflow_lag_provider.collect import MAX_PATIENCE_SECONDS
from airflow_lag_provider.hooks.elasticsearch import READ_SECONDS
from airflow_lag_provider.hooks.elasticsearch_client import DEFAULT_REQUEST_TIMEOUT
from airflow_lag_provider.hooks.elasticsearch_spool import SETTLE_SECONDS
from airflow_lag_provider.run import ENDED_VERSION, EXECUTION_MARGIN, SUCCESS_VERSION, Run
from airflow_lag_provider.ssh_sessions import SLOT_SECONDS

RUN = Run(
    dag_id="consumer_lag.oasis.orders",
    task_id="orders",
    run_id="scheduled__2026-11-22T13:35:00+00:00",
    run_type="scheduled",
    try_number=1,
    scheduled_at=datetime(2026, 11, 22, 13, 35, tzinfo=UTC),
    started_at=datetime(2026, 11, 22, 13, 35, 1, 5, tzinfo=UTC),
)


def test_the_tries_of_a_run_share_a_document() -> None:
    """Neither the try nor the way a time is written changes the document's id."""
    first = RUN.document_id(mirror="oasis", topic="orders")
    retry = replace(RUN, try_number=2)
    elsewhere = replace(RUN, started_at=RUN.started_at.astimezone(timezone(timedelta(hours=5))))
    assert retry.document_id(mirror="oasis", topic="orders") == first
    assert elsewhere.document_id(mirror="oasis", topic="orders") == first


def test_other_runs_topics_and_mirrors_have_documents_of_their_own() -> None:
    """A cleared, manual or backfilled run never touches a scheduled one's document."""
    cleared = replace(RUN, started_at=RUN.started_at + timedelta(microseconds=1))
    by_hand = replace(RUN, run_id="manual__2026-11-22T13:35:00+00:00")
    ids = [
        RUN.document_id(mirror="oasis", topic="orders"),
        RUN.document_id(mirror="oasis", topic="orders.eu"),
        RUN.document_id(mirror="oasis.orders", topic="eu"),
        RUN.document_id(mirror="other", topic="orders"),
        cleared.document_id(mirror="oasis", topic="orders"),
        by_hand.document_id(mirror="oasis", topic="orders"),
    ]
    assert len(set(ids)) == len(ids)


def test_a_success_outranks_the_failure_of_any_try() -> None:
    """Of two failures the later try stays; a success replaces both and is never replaced."""
    tries = [replace(RUN, try_number=number) for number in (1, 2, 900)]
    versions = [one.version(succeeded=False) for one in tries]
    assert versions == [1, 2, 900]
    assert {one.version(succeeded=True) for one in tries} == {SUCCESS_VERSION}
    assert max(versions) < SUCCESS_VERSION


def test_what_airflow_ended_replaces_nothing_that_we_wrote() -> None:
    """The version of such a document is below that of a failure of any try, also the first."""
    assert 0 <= ENDED_VERSION < RUN.version(succeeded=False)


def test_a_dated_index_is_that_of_the_scheduled_instant() -> None:
    """All tries of a run meet in one index, also when the day ends between them."""
    midnight = replace(
        RUN, scheduled_at=datetime(2026, 11, 23, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    )
    assert midnight.index_name("lag-%Y.%m.%d-%H") == "lag-2026.11.22-23"
    assert midnight.index_name("consumer_lag") == "consumer_lag"


def test_only_scheduled_runs_of_a_minute_share_a_describe() -> None:
    """A run by hand shows what is now, not what a scheduled run saw half a minute ago."""
    other_dag = replace(RUN, dag_id="consumer_lag.oasis.clicks", task_id="clicks")
    by_hand = replace(RUN, run_id="manual__13:35", run_type="manual")
    assert other_dag.occasion == RUN.occasion
    assert by_hand.occasion != RUN.occasion
    assert by_hand.occasion == replace(by_hand, task_id="clicks").occasion


def test_all_that_a_run_may_wait_for_fits_into_its_margin() -> None:
    """Turn, slot, earlier snapshots, connection, writing and spool leave Airflow ten seconds."""
    waits = (
        MAX_PATIENCE_SECONDS,
        SLOT_SECONDS,
        recall._PATIENCE_SECONDS,
        READ_SECONDS,
        3 * DEFAULT_REQUEST_TIMEOUT,
        SETTLE_SECONDS,
    )
    assert timedelta(seconds=sum(waits) + 10) <= EXECUTION_MARGIN
