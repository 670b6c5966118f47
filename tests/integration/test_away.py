"""Elasticsearch is stopped for two minutes under the running scheduler of both versions."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.airflow import Airflow
from lab.elasticsearch import Elasticsearch
from lab.errors import PartError
from lab.laboratory import Laboratory
from tests.integration.support import BINS, WRITER, eventually, mirror, search, write_project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

MINUTE = timedelta(minutes=1)
AWAY_SECONDS = 130
SERIES = {(name, topic) for name in ("triggerer", "worker") for topic in ("orders", "payments")}
"""By where its tasks run: what has one document each minute."""


@dataclass
class Story:
    """What happened, and what was left behind.

    :param away: when Elasticsearch was stopped, and when it was started again.
    :param documents: all documents in the end.
    :param states: the states of all runs that ended, by Airflow's account.
    :param shown: what ``airflow-lag spool`` has printed while Elasticsearch was away.
    :param waiting: names of the files in the spool in the end.
    :param logs: the text of all logs.
    """

    away: tuple[datetime, datetime]
    documents: list[dict[str, Any]]
    states: Counter[str]
    shown: str
    waiting: list[str]
    logs: str

    def due(self, name: str, topic: str) -> list[datetime]:
        """Return the scheduled instants that a topic has documents of."""
        return sorted(
            scheduled_at(one)
            for one in self.documents
            if (one["mirror"], one["topic"]) == (name, topic)
        )


def scheduled_at(document: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(document["airflow"]["scheduled_at"])


@pytest.fixture(scope="module", params=BINS)
def story(
    request: pytest.FixtureRequest,
    lab: Laboratory,
    elasticsearch: Elasticsearch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Story:
    version: str = request.param
    folder = tmp_path_factory.mktemp(f"away-{version}")
    index = f"consumer_lag-away-{version}"
    airflow = _airflow(version, lab, elasticsearch, folder, index)
    airflow.start()
    try:
        _wait_for(elasticsearch, index, since=None)
        elasticsearch.stop()
        stopped_at = datetime.now(UTC)
        try:
            time.sleep(AWAY_SECONDS)
            shown = airflow.execute(str(BINS[version] / "airflow-lag"), "spool").stdout
        finally:
            started_at = datetime.now(UTC)
            elasticsearch.start()
        _wait_for(elasticsearch, index, since=datetime.now(UTC))
        eventually(lambda: not _waiting(folder), "all of the spool is sent", seconds=90)
        states = _states(airflow, version)
    finally:
        airflow.stop()
    files = [*airflow.log_folder.parent.glob(f"{airflow.name}-*.log")]
    files += [*airflow.log_folder.rglob("*.log"), *airflow.home.rglob("*.log")]
    return Story(
        away=(stopped_at, started_at),
        documents=[hit["_source"] for hit in search(elasticsearch, index=index)],
        states=states,
        shown=shown,
        waiting=_waiting(folder),
        logs="\n".join(file.read_text(errors="replace") for file in files),
    )


def _airflow(
    version: str, lab: Laboratory, elasticsearch: Elasticsearch, folder: Path, index: str
) -> Airflow:
    common: dict[str, Any] = {
        "layout": "mirror",
        "paused": False,
        "topics": {"orders": None, "payments": None},
    }
    mirrors = {
        "triggerer": mirror(lab, **common),
        "worker": mirror(lab, deferrable=False, **common),
    }
    return Airflow(
        workspace=lab.workspace,
        bin=BINS[version],
        dags_folder=write_project(folder / "project", mirrors=mirrors, index=index),
        name=f"away-{version}",
        connections={
            "mirrormaker": lab.sshd.connection(),
            "elastic": elasticsearch.connection(WRITER),
        },
        environment={"AIRFLOW__LAG__SPOOL_DIR": str(folder / "spool")},
    )


def _wait_for(elasticsearch: Elasticsearch, index: str, *, since: datetime | None) -> None:
    """Wait until each series has a document of a run that was due since then."""

    def there() -> bool:
        # An index that is being created can't be searched for a moment.
        with suppress(PartError):
            found = [hit["_source"] for hit in search(elasticsearch, index=index)]
            recent = [one for one in found if since is None or scheduled_at(one) >= since]
            return {(one["mirror"], one["topic"]) for one in recent} == SERIES
        return False

    eventually(there, f"a document of each series since {since or 'ever'}", seconds=300)


def _waiting(folder: Path) -> list[str]:
    return [path.name for path in (folder / "spool").glob("*.jsonl")]


def _states(airflow: Airflow, version: str) -> Counter[str]:
    states: Counter[str] = Counter()
    for name in ("triggerer", "worker"):
        dag = ("-d", f"consumer_lag.{name}") if version == "2.11" else (f"consumer_lag.{name}",)
        printed = airflow.run("dags", "list-runs", *dag, "--output", "json").stdout
        runs = json.loads(printed[printed.index("[{") :])
        states += Counter(run["state"] for run in runs)
    return states


def test_no_minute_is_missing_and_none_is_doubled(story: Story) -> None:
    """Each topic has one snapshot of each minute, on both paths, from the first to the last."""
    for series in SERIES:
        due = story.due(*series)
        assert len(due) == len(set(due)) == int((due[-1] - due[0]) / MINUTE) + 1, series
    assert {one["event"]["outcome"] for one in story.documents} == {"success"}


def test_the_minutes_without_elasticsearch_have_their_own_times(story: Story) -> None:
    """Two minutes of each topic were taken meanwhile, and say so."""
    stopped, started = story.away
    for name, topic in SERIES:
        taken = [
            datetime.fromisoformat(one["@timestamp"]) - scheduled_at(one)
            for one in story.documents
            if (one["mirror"], one["topic"]) == (name, topic)
            and stopped < datetime.fromisoformat(one["@timestamp"]) < started
        ]
        assert len(taken) >= 2
        assert all(timedelta(0) < one < 2 * MINUTE for one in taken)


def test_the_tasks_were_green_with_a_warning(story: Story) -> None:
    """No run failed, and the logs say where the documents waited and why."""
    # Of both mirrors one before, and two while Elasticsearch was away.
    assert story.states["success"] >= 6
    assert not story.states["failed"]
    assert "wait for it in the spool" in story.logs
    assert "No connection to Elasticsearch" in story.logs


def test_the_command_shows_what_waits(story: Story) -> None:
    """How many documents, for which connection; in the end there are none, and no dead letters."""
    assert "Waiting: nothing" not in story.shown
    assert "for elastic, oldest 20" in story.shown
    assert "Refused by Elasticsearch: nothing" in story.shown
    assert story.waiting == []


def test_no_secret_is_in_a_log(story: Story) -> None:
    """The password of Elasticsearch was logged nowhere."""
    assert WRITER.password not in story.logs
