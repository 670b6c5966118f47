"""A real Elasticsearch that is stopped, hangs, is read-only or refuses, and the spool beside it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import DocumentRefused
from airflow_lag_provider.hooks import elasticsearch_flush as flushing
from airflow_lag_provider.hooks.elasticsearch_flush import Flushed, flush
from airflow_lag_provider.hooks.elasticsearch_spool import (
    Fate,
    Waits,
    settle,
    store,
)
from airflow_lag_provider.run import SUCCESS_VERSION
from airflow_lag_provider.spool import Spool
from lab.elasticsearch import Elasticsearch
from lab.errors import PartError
from lab.workspace import Workspace
from tests.integration.support import BINS, ROLES, SUPERUSER, WRITER, search

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

INDEX = "consumer_lag"
OTHER = "consumer_lag-other"
START = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
TOPICS = 10
MINUTES = 30


@pytest.fixture(scope="module")
def server() -> Iterator[Elasticsearch]:
    with Workspace() as workspace:
        server = Elasticsearch(workspace=workspace, users=(SUPERUSER, WRITER), roles=ROLES)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def elasticsearch(server: Elasticsearch, monkeypatch: pytest.MonkeyPatch) -> Elasticsearch:
    """The server without our index, and a connection that gives up after three seconds."""
    connection = {**server.connection(WRITER), "extra": {"request_timeout": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_ELASTIC", json.dumps(connection))
    server.request("DELETE", f"/{INDEX},{OTHER}?ignore_unavailable=true")
    return server


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "LONGEST_PAUSE", 2.0)


def document(minute: int, topic: int, **fields: Any) -> Document:
    at = START + minute * timedelta(minutes=1)
    source = {
        "@timestamp": at.isoformat(),
        "topic": f"topic-{topic}",
        "p0": minute,
        "event": {"outcome": "success"},
        "airflow": {"scheduled_at": at.isoformat()},
        **fields,
    }
    return Document(id=f"{minute}-{topic}", version=SUCCESS_VERSION, source=source)


async def stored(*documents: Document, index: str = INDEX) -> tuple[Fate, ...]:
    return await store(*documents, elasticsearch_conn_id="elastic", index=index)


async def minute(number: int) -> list[Fate]:
    """Let the tasks of one scheduled minute store their documents at the same time."""
    fates = await asyncio.gather(*(stored(document(number, topic)) for topic in range(TOPICS)))
    return [fate for one in fates for fate in one]


async def sent(spool: Spool) -> None:
    """Wait until nothing waits any more."""
    while spool.files(kind="waiting"):  # noqa: ASYNC110 - files have no event
        await asyncio.sleep(0.1)


def hits(elasticsearch: Elasticsearch, index: str = INDEX) -> list[dict[str, Any]]:
    with suppress(PartError):
        return list(search(elasticsearch, index=index))
    return []


def every_document_is_there_once(elasticsearch: Elasticsearch, minutes: int) -> None:
    """Assert that each topic has one document of each minute, as it was given."""
    found = {hit["_id"]: hit["_source"] for hit in hits(elasticsearch)}
    wanted = [document(number, topic) for number in range(minutes) for topic in range(TOPICS)]
    assert found == {one.id: dict(one.source) for one in wanted}


def test_half_an_hour_without_elasticsearch_loses_nothing(
    elasticsearch: Elasticsearch, spool: Spool
) -> None:
    """All documents of 30 minutes arrive when it is back, once, with their own time stamps."""

    async def story() -> None:
        assert await minute(0) == [None] * TOPICS
        await asyncio.to_thread(elasticsearch.stop)
        for number in range(1, MINUTES - 1):
            assert {type(one) for one in await minute(number)} == {Waits}
        await asyncio.to_thread(elasticsearch.start)
        assert await minute(MINUTES - 1) == [None] * TOPICS
        await sent(spool)

    asyncio.run(story())
    every_document_is_there_once(elasticsearch, MINUTES)


def test_what_workers_kept_is_sent_by_the_first_one_that_can_write(
    elasticsearch: Elasticsearch, spool: Spool
) -> None:
    """Each minute has an event loop of its own there, which ends with the task."""

    async def worker(number: int) -> list[Fate]:
        fates = await minute(number)
        await settle()
        return fates

    elasticsearch.stop()
    for number in range(5):
        assert {type(one) for one in asyncio.run(worker(number))} == {Waits}
        # As the end of the worker's process does.
        spool.release()
    elasticsearch.start()
    assert asyncio.run(worker(5)) == [None] * TOPICS
    assert spool.files() == []
    every_document_is_there_once(elasticsearch, 6)


def test_while_it_hangs_no_minute_takes_long_and_nothing_is_doubled(
    elasticsearch: Elasticsearch, spool: Spool
) -> None:
    """What was sent into the silence and stored all the same is sent again without harm."""

    async def away() -> None:
        await minute(0)
        await asyncio.to_thread(elasticsearch.pause)
        # These are on their way, by the open client.
        assert {type(one) for one in await minute(1)} == {Waits}
        assert not await asyncio.to_thread(spool.may_try, "elastic")
        for number in range(2, 6):
            assert {type(one) for one in await minute(number)} == {Waits}

    try:
        asyncio.run(away())
    finally:
        elasticsearch.resume()
    flushed = asyncio.run(flush(spool))
    assert (len(flushed.sent), flushed.left, flushed.refused) == (5 * TOPICS, 0, [])
    assert asyncio.run(minute(6)) == [None] * TOPICS
    every_document_is_there_once(elasticsearch, 7)


def test_what_a_read_only_index_does_not_take_waits(
    elasticsearch: Elasticsearch, spool: Spool
) -> None:
    """Until somebody takes the block away; another index is none the worse for it."""
    asyncio.run(minute(0))
    block(elasticsearch, True)
    assert {type(one) for one in asyncio.run(minute(1))} == {Waits}
    assert asyncio.run(stored(document(9, 9), index=OTHER)) == (None,)
    assert asyncio.run(flush(spool)).left == 1
    block(elasticsearch, None)

    async def story() -> None:
        await minute(2)
        await sent(spool)

    asyncio.run(story())
    every_document_is_there_once(elasticsearch, 3)
    assert len(hits(elasticsearch, OTHER)) == 1


def test_credentials_that_fail_are_no_reason_to_lose_a_snapshot(
    elasticsearch: Elasticsearch, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong password, no host, no such connection: all of it can be mended in Airflow."""
    right = os.environ["AIRFLOW_CONN_ELASTIC"]
    for number, changes in enumerate(({"password": "hush-wrong"}, {"host": ""})):
        wrong = json.dumps({**json.loads(right), **changes})
        monkeypatch.setenv("AIRFLOW_CONN_ELASTIC", wrong)
        assert {type(one) for one in asyncio.run(minute(number))} == {Waits}
    monkeypatch.delenv("AIRFLOW_CONN_ELASTIC")
    assert {type(one) for one in asyncio.run(minute(2))} == {Waits}
    assert all(b"hush" not in path.read_bytes() for path in spool.directory.iterdir())
    monkeypatch.setenv("AIRFLOW_CONN_ELASTIC", right)
    assert len(asyncio.run(flush(spool)).sent) == 3 * TOPICS
    every_document_is_there_once(elasticsearch, 3)


def test_a_document_that_does_not_fit_the_mapping_blocks_no_other(
    elasticsearch: Elasticsearch, spool: Spool
) -> None:
    """It goes to the dead letters, and is sent again when the mapping was mended."""
    asyncio.run(minute(0))
    block(elasticsearch, True)
    bad = document(2, 0, p0="many")
    assert type(asyncio.run(stored(bad))[0]) is Waits
    asyncio.run(minute(1))
    block(elasticsearch, None)
    flushed = asyncio.run(flush(spool))
    assert (len(flushed.sent), flushed.refused, flushed.left) == (TOPICS, ["2-0"], 0)
    every_document_is_there_once(elasticsearch, 2)
    (path,) = spool.files()
    assert "p0" in json.loads(path.read_bytes())["reason"]

    # The same at once, while nothing is away: the task hears of it.
    assert type(asyncio.run(stored(document(3, 0, p0="many")))[0]) is DocumentRefused
    assert asyncio.run(flush(spool, kind="refused")).refused == ["2-0", "3-0"]
    elasticsearch.request("DELETE", f"/{INDEX}")
    mapping = {"mappings": {"properties": {"p0": {"type": "keyword"}}}}
    elasticsearch.request("PUT", f"/{INDEX}", mapping)
    assert asyncio.run(flush(spool, kind="refused")) == Flushed(sent=["2-0", "3-0"])
    assert spool.files() == []
    assert {hit["_id"] for hit in hits(elasticsearch)} == {"2-0", "3-0"}


KILLED = """
import asyncio, os, signal
from airflow_lag_provider.hooks.elasticsearch_spool import Waits
from tests.integration.hooks import test_spool

fates = asyncio.run(test_spool.minute(1))
assert {type(one) for one in fates} == {Waits}, fates
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_kept_is_sent_by_another_one(
    elasticsearch: Elasticsearch, spool: Spool
) -> None:
    """The triggerer was killed while Elasticsearch was away; the next one sends its documents."""
    asyncio.run(minute(0))
    block(elasticsearch, True)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    block(elasticsearch, None)

    async def story() -> None:
        await minute(2)
        await sent(spool)

    asyncio.run(story())
    every_document_is_there_once(elasticsearch, 3)


@pytest.mark.parametrize("version", BINS)
def test_it_is_flushed_by_hand_with_a_connection_of_airflows_database(
    elasticsearch: Elasticsearch, spool: Spool, tmp_path: Path, version: str
) -> None:
    """The command needs no environment but Airflow's own, shows what waits, and sends it."""
    elasticsearch.pause()
    try:
        asyncio.run(minute(0))
    finally:
        elasticsearch.resume()
    spool.release()
    environment = {k: v for k, v in os.environ.items() if k != "AIRFLOW_CONN_ELASTIC"}
    environment["AIRFLOW_HOME"] = str(tmp_path / "home")

    def run(program: str, *words: str) -> str:
        ended = subprocess.run(
            [BINS[version] / program, *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    run("airflow", "db", "migrate")
    connection = json.dumps(elasticsearch.connection(WRITER))
    run("airflow", "connections", "add", "elastic", "--conn-json", connection)
    shown = run("airflow-lag", "spool")
    assert f"Waiting: {TOPICS} documents in 1 file, the oldest of {START.isoformat()}" in shown
    assert f"Waiting: {TOPICS} documents written" in run("airflow-lag", "spool", "--flush")
    assert "Waiting: nothing" in run("airflow-lag", "spool")
    every_document_is_there_once(elasticsearch, 1)


def block(elasticsearch: Elasticsearch, blocked: bool | None) -> None:
    """Make the index read-only, or writable again."""
    settings = {"index.blocks.write": blocked}
    elasticsearch.request("PUT", f"/{INDEX}/_settings", settings)
