"""DAG files and configuration in a Git repository, which Airflow 3 fetches by itself.

One Airflow runs through a story of some minutes: topics are watched, then one is added by a commit.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.airflow import Airflow
from lab.elasticsearch import Elasticsearch
from lab.errors import PartError
from lab.laboratory import Laboratory
from lab.postgresql import PostgreSQL, rows
from tests.integration.support import BINS, WRITER, eventually, mirror, search, write_project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

INDEX = "consumer_lag-git"
REFRESH_SECONDS = 10
STILL_SECONDS = 120


@dataclass
class Story:
    """What was left behind.

    :param topics: of the documents that tell of a snapshot.
    :param versions: of the runs: the commit that each is bound to, None for none.
    :param stored: how often the DAG processor stored the DAGs in two minutes without a change.
    """

    topics: set[str]
    versions: set[str | None]
    stored: int


def _git(repository: Path, *words: str) -> None:
    # Whatever the developer's own configuration asks for.
    mine = {"user.name": "Lab", "user.email": "lab@lab.invalid", "commit.gpgsign": "false",
            "core.hooksPath": "/dev/null"}  # fmt: skip
    settings = [word for name, value in mine.items() for word in ("-c", f"{name}={value}")]
    subprocess.run(["git", "-C", str(repository), *settings, *words], check=True)


def _commit(repository: Path, message: str) -> None:
    _git(repository, "add", "--all")
    _git(repository, "commit", "--quiet", "--message", message)


def _bundle(repository: Path) -> str:
    arguments = {
        "repo_url": str(repository),
        "tracking_ref": "main",
        "subdir": "dags",
        "refresh_interval": REFRESH_SECONDS,
    }
    classpath = "airflow.providers.git.bundles.git.GitDagBundle"
    return json.dumps([{"name": "lag", "classpath": classpath, "kwargs": arguments}])


def _snapshots(elasticsearch: Elasticsearch) -> list[dict[str, Any]]:
    # The index isn't there before the first document.
    with suppress(PartError):
        hits = search(elasticsearch, index=INDEX, event__outcome="success")
        return [hit["_source"] for hit in hits]
    return []


@pytest.fixture(scope="module")
def story(
    lab: Laboratory, elasticsearch: Elasticsearch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    repository = tmp_path_factory.mktemp("git") / "repository"
    watched = mirror(lab, paused=False, topics={"orders": None, "payments": None})
    write_project(repository, mirrors={"oasis": watched}, index=INDEX)
    _git(repository, "init", "--quiet", "--initial-branch", "main")
    _commit(repository, "Two topics")
    database = PostgreSQL(workspace=lab.workspace, name="postgresql-git")
    database.start()
    airflow = Airflow(
        workspace=lab.workspace,
        bin=BINS["3.3"],
        dags_folder=repository / "dags",
        name="airflow-git",
        database=database.url(),
        connections={
            "mirrormaker": lab.sshd.connection(),
            "elastic": elasticsearch.connection(WRITER),
        },
        environment={"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": _bundle(repository)},
    )
    airflow.start()
    try:
        yield _played(airflow, database, elasticsearch, repository)
    finally:
        airflow.stop()
        database.stop()


def _played(
    airflow: Airflow, database: PostgreSQL, elasticsearch: Elasticsearch, repository: Path
) -> Story:
    eventually(lambda: bool(_snapshots(elasticsearch)), "the first snapshot", seconds=180)
    before = _stored(airflow)
    time.sleep(STILL_SECONDS)
    stored = _stored(airflow) - before
    file = repository / "include" / "mirrors.yaml"
    configuration = yaml.safe_load(file.read_text())
    configuration["mirrors"]["oasis"]["topics"]["clicks"] = None
    file.write_text(yaml.safe_dump(configuration))
    _commit(repository, "One topic more")
    eventually(
        lambda: any(one["topic"] == "clicks" for one in _snapshots(elasticsearch)),
        "a snapshot of the topic that was added",
        seconds=240,
    )
    return Story(
        topics={one["topic"] for one in _snapshots(elasticsearch)},
        versions={
            version for (version,) in rows(database.url(), "SELECT bundle_version FROM dag_run")
        },
        stored=stored,
    )


def _stored(airflow: Airflow) -> int:
    log = airflow.component("dag-processor").log.read_text(errors="replace")
    return log.count("Bulk-writing dags to db")


def test_the_configuration_beside_the_repositorys_dags_is_found(story: Story) -> None:
    """Topics of include/mirrors.yaml in the repository are watched, also one added by a commit."""
    assert story.topics == {"orders", "payments", "clicks"}


def test_runs_are_not_bound_to_a_version(story: Story) -> None:
    """Airflow's bundle has versions, but the package's DAGs don't take part."""
    assert story.versions == {None}


def test_the_dag_processor_rests(story: Story) -> None:
    """It stores the DAGs a few times a minute, not in an endless loop (apache/airflow#73432)."""
    assert 1 <= story.stored <= 12
