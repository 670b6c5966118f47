"""Gaps on a real Elasticsearch: the command's question, and the one of docs/gaps.md."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_lag_provider.documents import Document
from airflow_lag_provider.gaps import MINUTE, Seen, Series, missing
from airflow_lag_provider.hooks import elasticsearch_gaps
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_gaps import seen_series
from airflow_lag_provider.run import ENDED_VERSION, Run
from lab.workspace import REPOSITORY
from tests.integration.support import SUPERUSER, Bench

pytestmark = pytest.mark.integration

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
OLD = {"@timestamp": {"type": "date"}, "topic": {"type": "text"}, "p0": {"type": "integer"}}
ORDERS, CLICKS = Series("oasis", "orders"), Series("oasis", "clicks-eu")


def at(minute: int) -> datetime:
    return NOON + minute * MINUTE


def document(
    topic: str,
    minute: int,
    *,
    error: str | None = None,
    run_type: str = "scheduled",
    cleared: int = 0,
) -> tuple[datetime, Document]:
    """Return the document of a topic of mirror oasis, and when it was due."""
    run = Run(
        dag_id=f"consumer_lag.oasis.{topic}",
        task_id=topic,
        run_id=f"{run_type}__{minute}",
        run_type=run_type,
        try_number=1,
        scheduled_at=at(minute),
        started_at=at(minute) + timedelta(seconds=1 + cleared),
    )
    source: dict[str, Any] = {
        "@timestamp": (at(minute) + timedelta(seconds=3)).isoformat(),
        "topic": topic,
        "mirror": "oasis",
        "event": {"outcome": "failure" if error else "success"},
        "airflow": run.to_document(),
    }
    if error:
        source["error"] = {"type": error, "message": "No."}
    identity = run.document_id(mirror="oasis", topic=topic)
    version = ENDED_VERSION if error == "EndedByAirflow" else run.version(succeeded=not error)
    return at(minute), Document(id=identity, version=version, source=source)


def store(bench: Bench, documents: Iterable[tuple[datetime, Document]], pattern: str) -> None:
    """Write documents to the indices of their instants, and let them be found."""
    by_index: dict[str, list[Document]] = {}
    for due, one in documents:
        by_index.setdefault(due.strftime(pattern), []).append(one)
    for index, some in by_index.items():
        hook = LagElasticsearchHook(elasticsearch_conn_id="elastic", index=index)
        assert set(asyncio.run(hook.write(*some))) == {None}
        bench.elasticsearch.request("POST", f"/{index}/_refresh")


def seen(pattern: str, until: int = 10) -> dict[Series, Seen]:
    return asyncio.run(
        seen_series(elasticsearch_conn_id="elastic", index=pattern, start=NOON, end=at(until))
    )


STORY = [
    document("orders", -5),
    *(document("orders", minute) for minute in (0, 1, 5, 6, 7, 8, 9)),
    document("orders", 2, error="BrokerUnreachable"),
    document("orders", 3, error="EndedByAirflow"),
    # Run by hand in the minute that Airflow left out.
    document("orders", 4, run_type="manual"),
    # Failed, then cleared: the snapshot counts.
    document("clicks-eu", 3, error="GroupNotFound"),
    document("clicks-eu", 3, cleared=60),
    *(document("clicks-eu", minute) for minute in (2, 4, 6, 7, 8, 9)),
]
EXPECTED = [
    ("clicks-eu", "gap", 5, 5),
    ("orders", "failure", 2, 2),
    ("orders", "failure", 3, 3),
    ("orders", "gap", 4, 4),
]


@pytest.fixture(params=["new", "old", "dated"])
def pattern(request: pytest.FixtureRequest, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> str:
    """An index with the story in it: a new one, one of the old script, or one with dates."""
    if request.param == "old":
        bench.elasticsearch.request("PUT", "/consumer_lag", {"mappings": {"properties": OLD}})
        # Adding fields to somebody else's index takes the right to manage it.
        connection = {**bench.connections["elastic"], "login": SUPERUSER.user}
        connection["password"] = SUPERUSER.password
        monkeypatch.setenv("AIRFLOW_CONN_ELASTIC", json.dumps(connection))
    pattern = "consumer_lag-gaps-%Y.%m.%d-%H" if request.param == "dated" else "consumer_lag"
    for hour in (11, 12):
        name = at(60 * (hour - 12)).strftime("consumer_lag-gaps-%Y.%m.%d-%H")
        bench.elasticsearch.request("DELETE", f"/{name}?ignore_unavailable=true")
    store(bench, STORY, pattern)
    return pattern


def test_gaps_and_failures_are_told_apart(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every kind of index, and however many pages the answer takes."""
    monkeypatch.setattr(elasticsearch_gaps, "_PAGE", 3)
    found = missing(seen(pattern), start=NOON, end=at(10))
    assert [
        (it.topic, it.kind, int((it.first - NOON) / MINUTE), int((it.last - NOON) / MINUTE))
        for it in found
    ] == EXPECTED
    assert [it.reason for it in found if it.kind == "failure"] == [
        "BrokerUnreachable",
        "EndedByAirflow",
    ]


def test_a_series_knows_its_dag_and_whether_it_was_there_before(pattern: str) -> None:
    """Documents of the day before count as watched, and the DAG is asked for in Airflow."""
    found = seen(pattern)
    assert set(found) == {ORDERS, CLICKS}
    assert (found[ORDERS].before, found[CLICKS].before) == (True, False)
    assert found[CLICKS].dag_id == "consumer_lag.oasis.clicks-eu"


@pytest.mark.parametrize("pattern", ["consumer_lag", "consumer_lag-away-%Y.%m.%d"])
def test_a_topic_that_was_away_for_days_was_watched_all_the_same(
    bench: Bench, pattern: str
) -> None:
    """An old document makes the time until the new ones a gap; a new topic has none."""
    days = 1440 * 3
    for due in (at(-days), at(0)):
        bench.elasticsearch.request("DELETE", f"/{due:{pattern}}?ignore_unavailable=true")
    several = [document(topic, 5) for topic in ("orders", "clicks-eu")]
    store(bench, [document("orders", -days), *several], pattern)
    found = seen(pattern)
    assert (found[ORDERS].before, found[CLICKS].before) == (True, False)


def test_without_an_index_nothing_was_seen(bench: Bench) -> None:
    """Before the first document there is no error, only nothing."""
    assert seen("consumer_lag") == {}
    assert seen("consumer_lag-gaps-none-%d") == {}


def test_the_documented_query_shows_the_same(bench: Bench) -> None:
    """The buckets of docs/gaps.md, read as it says, are the gaps and failures of the command."""
    store(bench, STORY, "consumer_lag")
    (query,) = re.findall(r"```json\n(.*?)```", (REPOSITORY / "docs/gaps.md").read_text(), re.S)
    query = query.replace("T13:00", "T12:10").replace("T12:59", "T12:09")
    answer = bench.elasticsearch.request("POST", "/consumer_lag/_search", json.loads(query))
    found = []
    for mirror in answer["aggregations"]["mirrors"]["buckets"]:
        for topic in mirror["topics"]["buckets"]:
            for bucket in topic["minutes"]["buckets"]:
                kind = "failure" if bucket["doc_count"] else "gap"
                minute = int((bucket["key"] / 1000 - NOON.timestamp()) / 60)
                if not bucket["snapshots"]["doc_count"]:
                    found.append((topic["key"], kind, minute, minute))
    # The query doesn't know since when a topic is watched.
    assert sorted(found) == sorted(
        [("clicks-eu", "gap", 0, 0), ("clicks-eu", "gap", 1, 1), *EXPECTED]
    )


def test_what_airflow_ended_never_replaces_a_document(bench: Bench) -> None:
    """Whichever comes first, our own failure and a snapshot stay; the second of its kind goes."""
    ours, ended = (
        document("orders", 1, error="GroupNotFound"),
        document("orders", 1, error="EndedByAirflow"),
    )
    snapshot = document("orders", 1)

    def after(*documents: tuple[datetime, Document]) -> Any:
        bench.elasticsearch.request("DELETE", "/consumer_lag?ignore_unavailable=true")
        for one in documents:
            store(bench, [one], "consumer_lag")
        (found,) = bench.documents()
        return found.get("error", {}).get("type")

    assert after(ended) == after(ended, ended) == "EndedByAirflow"
    assert after(ours, ended) == after(ended, ours) == "GroupNotFound"
    assert after(snapshot, ended) is None
    assert after(ended, ours, snapshot, ended) is None


def test_of_many_at_once_those_without_a_document_get_one(bench: Bench) -> None:
    """In layout group one request holds the documents of all topics; each has its own fate."""
    store(bench, [document("orders", 1)], "consumer_lag")
    both = [document(topic, 1, error="EndedByAirflow") for topic in ("orders", "clicks-eu")]
    store(bench, both, "consumer_lag")
    outcomes = {one["topic"]: one["event"]["outcome"] for one in bench.documents()}
    assert outcomes == {"orders": "success", "clicks-eu": "failure"}
