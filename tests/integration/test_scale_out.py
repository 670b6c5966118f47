"""Airflow 3.3 scaled out: Celery, two schedulers, two triggerers; one of each is lost.

One story of about five minutes; each test looks at one side of what it left behind.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab import client
from lab.airflow import Airflow
from lab.elasticsearch import Elasticsearch
from lab.errors import PartError
from lab.laboratory import Laboratory
from lab.postgresql import PostgreSQL, rows
from lab.redis import Redis
from lab.sshd import AsyncsshServer
from tests.integration.support import BINS, WRITER, eventually, mirror, search, write_project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

INDEX = "consumer_lag-scale-out"
GROUP = "scaled-group"
TOPICS = [f"scaled-{number:02}" for number in range(12)]
POOL = "lag_pooled"
SLOTS = 2
MINUTE = timedelta(minutes=1)
MIRRORS = {"wide": TOPICS, "pooled": TOPICS[:4], "grouped": TOPICS[:6]}
"""By layout: a DAG for each topic in the triggerer; the same on workers; one task for all."""

SERIES = {(name, topic) for name, topics in MIRRORS.items() for topic in topics}
"""What has one document each minute."""


@dataclass
class Story:
    """What happened, and what was left behind.

    :param hits: all hits of the index in the end.
    :param last: the last scheduled instant that was waited for.
    :param lost: the scheduled instant whose triggers the killed triggerer had, all of them.
    :param killed_at: when it was killed.
    :param at_once: how many tasks of the pool ran at once, at most.
    :param celery_tasks: how many tasks the Celery worker was given.
    """

    hits: list[dict[str, Any]]
    last: datetime
    lost: datetime
    killed_at: datetime
    at_once: int
    celery_tasks: int

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [hit["_source"] for hit in self.hits]


@dataclass
class Stage:
    """The Airflow and what it works with, while the story runs."""

    airflow: Airflow
    database: PostgreSQL
    elasticsearch: Elasticsearch
    host: AsyncsshServer
    workers_host: AsyncsshServer

    def hits(self) -> list[dict[str, Any]]:
        """Return the documents so far; none while the index is being made."""
        with suppress(PartError):
            return list(search(self.elasticsearch, index=INDEX))
        return []

    def wait_for(self, instant: datetime | None, *, seconds: float) -> None:
        """Wait until each series has a snapshot: of an instant, or any."""

        def missing() -> set[tuple[str, str]]:
            found = [hit["_source"] for hit in self.hits()]
            return SERIES - {
                (one["mirror"], one["topic"])
                for one in found
                if one["event"]["outcome"] == "success" and instant in (None, scheduled_at(one))
            }

        eventually(
            lambda: not missing(), f"snapshots of {instant or 'any minute'}", seconds=seconds
        )


@pytest.fixture(scope="module")
def stage(
    lab: Laboratory, elasticsearch: Elasticsearch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    for topic in TOPICS:
        lab.source.create_topic(topic, 3)
    offsets = {(topic, partition): 0 for topic in TOPICS for partition in range(3)}
    client.commit_offsets(lab.source.bootstrap, GROUP, offsets)
    database = PostgreSQL(workspace=lab.workspace, name="postgresql-scale-out")
    redis = Redis(workspace=lab.workspace)
    hosts = [AsyncsshServer(workspace=lab.workspace, name=f"sshd-scale-{n}") for n in (1, 2)]
    for part in (database, redis, *hosts):
        part.start()
    airflow = Airflow(
        workspace=lab.workspace,
        bin=BINS["3.3"],
        dags_folder=_project(tmp_path_factory.mktemp("scale-out"), lab),
        name="scaled",
        database=database.url(),
        broker=redis.url(),
        connections={
            "triggerers_host": hosts[0].connection(),
            "workers_host": hosts[1].connection(),
            "elastic": elasticsearch.connection(WRITER),
        },
        environment={
            "AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP": "100",
            "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "100",
            # How long the tasks of a lost scheduler wait that it had not yet sent to a worker, and
            # those of a lost worker.
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        },
    )
    yield Stage(airflow, database, elasticsearch, *hosts)
    airflow.stop()
    for part in (*hosts, redis, database):
        part.stop()


def _project(folder: Path, lab: Laboratory) -> Path:
    common = {"group": GROUP, "paused": False}
    wide = mirror(lab, ssh_conn_id="triggerers_host", topics=dict.fromkeys(TOPICS), **common)
    pooled = mirror(
        lab,
        ssh_conn_id="workers_host",
        topics=dict.fromkeys(MIRRORS["pooled"]),
        deferrable=False,
        pool=POOL,
        **common,
    )
    grouped = mirror(
        lab,
        ssh_conn_id="triggerers_host",
        topics=dict.fromkeys(MIRRORS["grouped"]),
        layout="group",
        **common,
    )
    mirrors = {"wide": wide, "pooled": pooled, "grouped": grouped}
    return write_project(folder, mirrors=mirrors, index=INDEX)


@pytest.fixture(scope="module")
def story(stage: Stage) -> Story:
    airflow = stage.airflow
    airflow.migrate()
    done = airflow.run("pools", "set", POOL, str(SLOTS), "Lag of MirrorMaker")
    assert done.code == 0, done.stdout + done.stderr
    airflow.start(schedulers=2, triggerers=2)
    stage.wait_for(None, seconds=240)
    lost, killed_at = _lose_a_triggerer(stage)
    _until(lost + MINUTE - timedelta(seconds=2))
    _lose_a_scheduler(stage)
    last = lost + 3 * MINUTE
    _until(last)
    for instant in (lost, lost + MINUTE, lost + 2 * MINUTE, last):
        stage.wait_for(instant, seconds=120)
    worker = airflow.component("worker").log.read_text(errors="replace")
    return Story(
        hits=stage.hits(),
        last=last,
        lost=lost,
        killed_at=killed_at,
        at_once=_most_at_once(stage.database),
        celery_tasks=worker.count("] received"),
    )


def _lose_a_triggerer(stage: Stage) -> tuple[datetime, datetime]:
    """Kill a triggerer in which all tasks of a minute wait for the describe."""
    second = stage.airflow.component("triggerer-2")
    lost = _next_minute()
    _until(lost - timedelta(seconds=4))
    # Whichever asks first gets the triggers: meanwhile the other one doesn't.
    second.pause()
    stage.host.pause()
    wanted = len(TOPICS) + 1
    eventually(lambda: _assigned(stage.database) >= wanted, "all triggers are assigned", seconds=60)
    stage.airflow.component("triggerer").kill()
    killed_at = datetime.now(UTC)
    stage.host.resume()
    second.resume()
    return lost, killed_at


def _lose_a_scheduler(stage: Stage) -> None:
    """Kill a scheduler while tasks of a minute wait for workers."""
    before = len(stage.workers_host.commands())
    eventually(lambda: len(stage.workers_host.commands()) > before, "a describe", seconds=60)
    stage.airflow.component("scheduler").kill()


def _assigned(database: PostgreSQL) -> int:
    """Return how many triggers triggerers have now."""
    return len(rows(database.url(), "select id from trigger where triggerer_id is not null"))


def _next_minute() -> datetime:
    """Return the next full minute that is at least ten seconds away."""
    later = datetime.now(UTC) + timedelta(seconds=10)
    return later.replace(second=0, microsecond=0) + MINUTE


def _until(instant: datetime) -> None:
    time.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))


def _most_at_once(database: PostgreSQL) -> int:
    """Return how many tasks of the pool ran at once, at most, by Airflow's own account."""
    spans = rows(
        database.url(),
        "select start_date, end_date from task_instance"
        f" where pool = '{POOL}' and start_date is not null and end_date is not null",
    )
    # A slot is free again before the next task starts, also within one instant.
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def scheduled_at(document: dict[str, Any]) -> datetime:
    """Return the instant that a document's run was due."""
    return datetime.fromisoformat(document["airflow"]["scheduled_at"])


def begun_at(document: dict[str, Any]) -> datetime:
    """Return when the work of a document's run began."""
    return scheduled_at(document) + timedelta(microseconds=document["event"]["delay"] / 1000)


def test_each_topic_and_minute_has_one_snapshot(story: Story) -> None:
    """From the first minute of all topics to the last, none is missing, doubled or failed."""
    counts = Counter((one["mirror"], one["topic"], scheduled_at(one)) for one in story.documents)
    firsts = [
        min(instant for name, topic, instant in counts if (name, topic) == one) for one in SERIES
    ]
    first = max(firsts)
    minutes = [first + MINUTE * n for n in range(int((story.last - first) / MINUTE) + 1)]
    assert first < story.lost
    expected = {(*one, instant): 1 for one in SERIES for instant in minutes}
    assert {key: count for key, count in counts.items() if key[2] in minutes} == expected
    assert {one["event"]["outcome"] for one in story.documents} == {"success"}


def test_the_other_triggerer_took_what_the_lost_one_had(story: Story) -> None:
    """All that waited in the lost triggerer was begun anew in the other one."""
    begun = [
        begun_at(one)
        for one in story.documents
        if one["mirror"] != "pooled" and scheduled_at(one) == story.lost
    ]
    assert len(begun) == len(MIRRORS["wide"]) + len(MIRRORS["grouped"])
    assert min(begun) > story.killed_at


def test_the_pool_keeps_tasks_on_workers_in_line(story: Story) -> None:
    """Its tasks went through the Celery worker, as many at once as it has slots."""
    pooled = [one for one in story.documents if one["mirror"] == "pooled"]
    assert story.celery_tasks >= len(pooled)
    assert story.at_once == SLOTS
