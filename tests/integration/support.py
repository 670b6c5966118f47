"""What the integration tests share: connections, runs of the operator, reading documents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.providers.common.compat.sdk import AirflowFailException
from confluent_kafka import Consumer

from airflow_lag_provider.errors import LagError
from airflow_lag_provider.operators.lag import SSHLagOperator
from lab.elasticsearch import Credentials, Elasticsearch
from lab.laboratory import Laboratory
from lab.workspace import REPOSITORY

BINS = {"3.3": REPOSITORY / ".venv" / "bin", "2.11": REPOSITORY / ".venv-2.11" / "bin"}
TOOLS = ["2.6.2", "3.9.1", "4.3.1"]
"""Versions of Kafka whose tools are run."""
SUPERUSER = Credentials("lab", "the-labs-own-pass")
WRITER = Credentials("lag_writer", "hush-elastic-1", ("lag_writer",))
# The rights that the README asks for, and no more.
ROLES = """
lag_writer:
  cluster: ["monitor"]
  indices:
    - names: ["consumer_lag*"]
      privileges: ["create_index", "auto_configure", "view_index_metadata", "index", "read"]
"""


@dataclass
class Bench:
    """A laboratory with what a test needs to run the operator in this process and look at it.

    :param connections: Airflow connections by id, as ``AIRFLOW_CONN_*`` takes them.
    """

    lab: Laboratory
    elasticsearch: Elasticsearch
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)

    def operator(self, **changes: Any) -> SSHLagOperator:
        """Return an operator for topic ``orders`` of the laboratory's own group."""
        arguments: dict[str, Any] = {
            "task_id": "orders",
            "mirror": "oasis",
            "group": self.lab.group,
            "bootstrap_servers": self.lab.source.bootstrap,
            "ssh_conn_id": "mirrormaker",
            "elasticsearch_conn_id": "elastic",
            "tool": str(self.lab.tool),
            "timeout": 25,
            **changes,
        }
        if "topics" not in arguments:
            arguments.setdefault("topic", "orders")
        return SSHLagOperator(**arguments)

    def documents(self, index: str = "consumer_lag", **terms: Any) -> list[dict[str, Any]]:
        """Return the documents of an index whose fields have these values, oldest first.

        :param terms: fields with ``__`` for each dot.
        """
        found = search(self.elasticsearch, index=index, **terms)
        return [hit["_source"] for hit in found]


def search(elasticsearch: Elasticsearch, *, index: str = "consumer_lag", **terms: Any) -> Any:
    """Return the hits of a search by exact values, oldest first."""
    filters = [{"term": {name.replace("__", "."): value}} for name, value in terms.items()]
    elasticsearch.request("POST", f"/{index}/_refresh")
    body = {
        "size": 5000,
        "query": {"bool": {"filter": filters}},
        "sort": [{"@timestamp": "asc"}],
    }
    return elasticsearch.request("POST", f"/{index}/_search", body)["hits"]["hits"]


@contextmanager
def member(
    bootstrap: str, *, group: str, topics: Sequence[str], **settings: Any
) -> Iterator[Consumer]:
    """A living member of a group that owns all partitions of the topics and commits by hand.

    :param settings: further ones of the client.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "client.id": "a member",
            **settings,
        }
    )
    consumer.subscribe(list(topics))

    def has_partitions() -> bool:
        consumer.poll(0.2)
        return bool(consumer.assignment())

    try:
        # From then on librdkafka's own thread keeps the membership alive.
        eventually(has_partitions, "the member has partitions", seconds=30)
        yield consumer
    finally:
        consumer.close()


def context(run_id: str, *, try_number: int = 1, started_at: datetime | None = None) -> Any:
    """Return the parts of Airflow's context that the operator reads."""
    now = datetime.now(UTC)
    dag_run = SimpleNamespace(
        run_id=run_id, run_type="scheduled", start_date=started_at or now, run_after=now
    )
    ti = SimpleNamespace(dag_id="dag", task_id="orders", try_number=try_number)
    return {"dag_run": dag_run, "ti": ti, "data_interval_end": now}


def fails(bench: Bench, *words: str, kind: str, retried: bool, **changes: Any) -> dict[str, Any]:
    """Run the operator, which must fail in this way; return the failure's document.

    :param words: what the message has to name.
    :param kind: the document's ``error.type``.
    :param retried: whether Airflow gets to try it again.
    """
    with pytest.raises((LagError, AirflowFailException)) as raised:
        bench.operator(**changes).execute(context("run"))
    (document,) = bench.documents()
    assert document["event"]["outcome"] == "failure"
    error = document["error"]
    assert error["type"] == kind, error
    assert isinstance(raised.value, AirflowFailException) is not retried
    assert not {"p0", "lag", "partition", "partitions"} & document.keys()
    for word in words:
        assert word in str(raised.value)
        assert word in error["message"], error
    return document


def script(path: Path, text: str) -> str:
    """Write a script for ``sh`` that everybody may run; return its path."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def write_project(
    folder: Path, *, mirrors: Mapping[str, Any], index: str = "consumer_lag", **top: Any
) -> Path:
    """Write a DAG project with the repository's own DAG files; return its folder of DAGs."""
    dags = folder / "dags"
    dags.mkdir(parents=True)
    for file in (REPOSITORY / "dags").glob("*.py"):
        (dags / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "include").mkdir()
    configuration = {
        "elasticsearch": {"conn_id": "elastic", "index": index},
        "mirrors": dict(mirrors),
        **top,
    }
    (folder / "include" / "mirrors.yaml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    return dags


def mirror(lab: Laboratory, **changes: Any) -> dict[str, Any]:
    """Return a mirror of mirrors.yaml that watches the laboratory's own group."""
    return {
        "ssh_conn_id": "mirrormaker",
        "bootstrap_servers": [lab.source.bootstrap],
        "group": lab.group,
        "tool": str(lab.tool),
        "topics": {"orders": None},
        **changes,
    }


def eventually(check: Callable[[], bool], what: str, *, seconds: float) -> None:
    """Wait until something holds.

    :raises AssertionError: it doesn't after that many seconds.
    """
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not so after {seconds:g} s: {what}"
        time.sleep(0.2)


def as_environment(connections: Mapping[str, Any]) -> dict[str, str]:
    """Return connections as Airflow's environment variables."""
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(one) for name, one in connections.items()}


def run_whole(
    command: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a command of the project in a session of its own; return its exit code and its output.

    :param seconds: after which it is killed, with all of its session.
    :raises subprocess.TimeoutExpired: it was.
    """
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    print(output)
    return process.returncode, output
