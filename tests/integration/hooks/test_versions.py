"""Clients of version 8 and 9 with real servers of version 8 and 9, in every combination.

Airflow 2.11's environment has client 8 and 3.3's has client 9. So for each combination this file
is run as a program with the Python of that environment, and the tests look at what it reports.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import pytest

from airflow_lag_provider.documents import Document
from airflow_lag_provider.history import Shape
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_history import Question
from airflow_lag_provider.snapshot import PartitionLag, TopicSnapshot
from lab.elasticsearch import Elasticsearch
from lab.elasticsearch9 import Elasticsearch9
from lab.workspace import REPOSITORY, Workspace

pytestmark = pytest.mark.integration

ENVIRONMENTS = {"8": REPOSITORY / ".venv-2.11", "9": REPOSITORY / ".venv"}
ID = "a run"
# (version, lag): the first one creates, the second is older than that, the third is newer.
WRITES = ((5, 50), (4, 40), (6, 60))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one client has seen at one server.

    :param client: version of the client.
    :param server: version of the server, as it names it itself.
    :param tested: what ``test_connection`` has returned.
    :param stored: version and lag of the document in the server, after each of the writes.
    :param outcomes: what ``outcomes`` has returned for the document and for one that isn't there.
    :param latest: what ``latest`` has returned for a topic whose snapshot lacks a partition, for
        one whose snapshot lacks none, and for one without a snapshot.
    :param mapping: the index's mapping in the server.
    """

    client: str
    server: str
    tested: tuple[bool, str]
    stored: list[tuple[int, int]]
    outcomes: list[dict[str, Any] | None]
    latest: list[dict[str, Any] | None]
    mapping: dict[str, Any]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Elasticsearch | Elasticsearch9]]:
    """One server of each version, by its major version."""
    with Workspace() as workspace:
        servers: dict[str, Elasticsearch | Elasticsearch9] = {
            "8": Elasticsearch(workspace=workspace),
            "9": Elasticsearch9(workspace=workspace),
        }
        for server in servers.values():
            server.start()
        yield servers


@pytest.fixture(
    scope="module",
    params=[(client, server) for client in "89" for server in "89"],
    ids=lambda pair: f"client{pair[0]}-server{pair[1]}",
)
def combination(
    request: pytest.FixtureRequest,
    servers: dict[str, Elasticsearch | Elasticsearch9],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, str, Report]:
    """Major versions of client and server, and what came of them; each has an index of its own."""
    client, server = request.param
    done = subprocess.run(
        [
            *(ENVIRONMENTS[client] / "bin" / "python", "-m", __spec__.name),
            *(servers[server].url, f"written_by_{client}"),
        ],
        # The tests' own home belongs to the Airflow of this process.
        env=os.environ
        | {"AIRFLOW_CONN_ES": json.dumps(servers[server].connection())}
        | {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow"))},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Airflow may log before it.
    return client, server, Report(**json.loads(done.stdout.splitlines()[-1]))


def test_client_and_server_are_what_they_are_said_to_be(
    combination: tuple[str, str, Report],
) -> None:
    """The versions of client and server are those that the combination stands for."""
    client, server, report = combination
    majors = report.client.partition(".")[0], report.server.partition(".")[0]
    assert majors == (client, server)


def test_the_connection_is_good(combination: tuple[str, str, Report]) -> None:
    """The button "Test" of the connection says that the cluster answers."""
    good, sentence = combination[2].tested
    assert good, sentence
    assert sentence.startswith("Cluster elasticsearch is ")


def test_the_index_is_created_from_the_mapping(combination: tuple[str, str, Report]) -> None:
    """A write creates the missing index with every field of the package's mapping."""
    text = (files("airflow_lag_provider") / "mapping.json").read_text(encoding="utf-8")
    wanted = json.loads(text)["mappings"]
    created = combination[2].mapping
    assert created["properties"] == wanted["properties"]
    assert created["dynamic_templates"] == wanted["dynamic_templates"]


def test_the_document_of_the_highest_version_stays(combination: tuple[str, str, Report]) -> None:
    """A write creates, one of a lower version changes nothing, one of a higher version replaces."""
    assert [tuple(pair) for pair in combination[2].stored] == [(5, 50), (5, 50), (6, 60)]


def test_what_became_of_a_document_can_be_asked(combination: tuple[str, str, Report]) -> None:
    """The answer has the two fields alone, and nothing for a document that isn't there."""
    assert combination[2].outcomes == [{"event": {"outcome": "success"}}, None]


def test_the_newest_snapshot_of_a_topic_can_be_asked(
    combination: tuple[str, str, Report],
) -> None:
    """The answer has what partitions are compared by, and nothing for a topic without one."""
    lacking, whole, none = combination[2].latest
    assert lacking is not None
    assert Shape.of_document(lacking).ends == {0: 5, 3: None}
    assert whole is not None
    assert Shape.of_document(whole).ends == {0: 5}
    assert none is None


def _get(url: str) -> Any:
    """Read from the server without the client that is tested."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def _report(url: str, index: str) -> Report:
    """Write to a server through the connection ``es`` and report what is in it."""
    hook = LagElasticsearchHook(elasticsearch_conn_id="es", index=index)
    stored = []
    for number, lag in WRITES:
        event = {"outcome": "success", "duration": 1}
        source = {"@timestamp": "2026-01-01T00:00:00Z", "lag": {"total": lag}, "event": event}
        document = Document(id=ID, version=number, source=source)
        asyncio.run(hook.write(document))
        found = _get(f"{url}/{index}/_doc/a%20run")
        stored.append((found["_version"], found["_source"]["lag"]["total"]))
    (node,) = _get(f"{url}/_nodes")["nodes"].values()
    return Report(
        client=version("elasticsearch"),
        server=node["version"],
        tested=hook.test_connection(),
        stored=stored,
        outcomes=list(asyncio.run(hook.outcomes(ID, "none"))),
        mapping=_get(f"{url}/{index}/_mapping")[index]["mappings"],
        # Last, because its document adds fields to the mapping.
        latest=asyncio.run(_latest(hook, f"{url}/{index}")),
    )


async def _latest(hook: LagElasticsearchHook, url: str) -> list[Any]:
    """Write snapshots of two topics, and ask for them and for one of a topic without."""
    taken_at = datetime.now(UTC)
    run = {"event": {"outcome": "success"}, "airflow": {"run_type": "scheduled"}}
    written: dict[str, tuple[int, ...]] = {"orders": (3,), "payments": ()}
    questions = [
        Question(mirror="oasis", group="g", topic=topic, before=taken_at + timedelta(seconds=1))
        for topic in (*written, "clicks")
    ]
    async with hook.session() as session:
        for topic, missing in written.items():
            row = PartitionLag(topic, 0, 4, 5, 1)
            one = TopicSnapshot("oasis", "g", topic, taken_at, "empty", (row,), missing=missing)
            await session.write(Document(id=topic, version=1, source=one.to_document() | run))
        _get(f"{url}/_refresh")
        return list(await session.latest(*questions))


if __name__ == "__main__":
    print(json.dumps(asdict(_report(*sys.argv[1:]))))
