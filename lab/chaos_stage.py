"""The laboratory of a chaos run: a mirror of many topics, watched by an Airflow on PostgreSQL."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from confluent_kafka import ConsumerGroupState

from lab import client
from lab.airflow import Airflow
from lab.chaos_faults import Say, Target
from lab.chaos_records import INDEX, MIRROR, Records
from lab.errors import LabError
from lab.laboratory import Laboratory
from lab.network import is_listening
from lab.offsets import read_group
from lab.postgresql import PostgreSQL
from lab.producer import Producer
from lab.reader import Reader
from lab.workspace import REPOSITORY

GROUP = "chaos-group"
"""MirrorMaker's consumer group."""

PARTITIONS = 3
"""Number of partitions of each topic."""

_READ_EVERY_SECONDS = 1.5
_FIRST_SECONDS = 400.0
_POLL_SECONDS = 2.0

_SETTINGS = {
    # When a worker, to which tasks go that Airflow ends, counts as lost.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
}


def topic_names(count: int) -> list[str]:
    """Return the names of so many topics."""
    return [f"chaos-{number:02}" for number in range(count)]


def configuration(*, bootstrap: str, tool: Path, topics: Sequence[str]) -> dict[str, Any]:
    """Return mirrors.yaml: layout topic, what isn't named is as it comes."""
    return {
        "elasticsearch": {"conn_id": "elastic", "index": INDEX},
        "mirrors": {
            MIRROR: {
                "ssh_conn_id": "mirrormaker",
                "bootstrap_servers": [bootstrap],
                "group": GROUP,
                "tool": str(tool),
                "layout": "topic",
                "paused": False,
                "topics": dict.fromkeys(topics),
            }
        },
    }


class Stage:
    """An Airflow 3.3 with PostgreSQL and a spool, and what it watches; a context manager.

    :param lab: a laboratory with MirrorMaker, Elasticsearch and OpenSSH's sshd, and no producer.
    :param say: told, line by line, what it waits for.
    """

    def __init__(self, lab: Laboratory, *, say: Say) -> None:
        self._lab = lab
        self._say = say
        folder = lab.workspace.directory("chaos")
        spool = lab.workspace.secrets / "spool"
        self._mirrors = folder / "mirrors.yaml"
        whole = configuration(bootstrap=lab.source.bootstrap, tool=lab.tool, topics=lab.topics)
        self._mirrors.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
        self._database = PostgreSQL(workspace=lab.workspace)
        self._database.start()
        self._airflow = Airflow(
            workspace=lab.workspace,
            bin=Path(sys.executable).parent,
            dags_folder=REPOSITORY / "dags",
            database=self._database.url(),
            connections={
                "mirrormaker": lab.openssh.connection(),
                "elastic": lab.elasticsearch.connection(),
            },
            environment=_SETTINGS
            | {
                "AIRFLOW__LAG__MIRRORS_FILE": str(self._mirrors),
                "AIRFLOW__LAG__SPOOL_DIR": str(spool),
            },
        )
        self.records = Records(lab, self._airflow, database=self._database.url(), spool=spool)
        """What is left behind."""

        self._producer = Producer(
            bootstrap=lab.source.bootstrap,
            topics=lab.topics,
            partitions=lab.partitions,
            rate=_rate,
        )
        self.reader = Reader(
            bootstrap=lab.source.bootstrap,
            group=lab.group,
            topics=lab.topics,
            every=_READ_EVERY_SECONDS,
        )
        """The independent client."""

    def __enter__(self) -> Self:
        """Let messages flow, start Airflow, and return when each topic has its first snapshot.

        :raises LabError: something does not come up.
        """
        try:
            self._start()
        except BaseException:
            self._producer.abandon()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop what is no process; the laboratory ends the rest."""
        self.reader.stop()
        self._producer.abandon()

    def targets(self) -> dict[str, Target]:
        """Return the parts that faults are for, by the names of the plan."""
        lab = self._lab

        def group_is_stable(_: datetime) -> bool:
            state = client.group_state(lab.source.bootstrap, lab.group)
            return state is ConsumerGroupState.STABLE

        def index_is_there(_: datetime) -> bool:
            path = f"/_cluster/health/{INDEX}?timeout=1s"
            health = lab.elasticsearch.request("GET", path, timeout=3)
            return health["status"] in {"green", "yellow"}

        targets = {
            "MirrorMaker": Target(lab.mirrormaker, group_is_stable),
            "broker": Target(lab.source, lambda _: client.is_answering(lab.source.bootstrap)),
            "sshd": Target(lab.openssh, lambda _: is_listening(lab.openssh.port)),
            "Elasticsearch": Target(lab.elasticsearch, index_is_there),
        }
        for name in ("triggerer", "scheduler"):
            targets[name] = Target(self._airflow.component(name), partial(self._beats, name))
        return targets

    def check_all_run(self) -> None:
        """Raise when a part that nobody stopped is gone, or a client that the check relies on.

        :raises LabError: it names the part.
        """
        if gone := self.gone_clients():
            raise LabError("; ".join(gone))
        lab = self._lab
        parts = (lab.source, lab.target, lab.mirrormaker, lab.openssh, lab.elasticsearch)
        for part in (*parts, self._database):
            # Raises, with the end of its log, when it has gone.
            _ = part.pid
        for name in ("api-server", "dag-processor", "scheduler", "triggerer"):
            _ = self._airflow.component(name).pid

    def gone_clients(self) -> list[str]:
        """Return a sentence for each client of ours that has ended by itself."""
        clients: dict[str, Reader | Producer] = {
            "independent client": self.reader,
            "producer": self._producer,
        }
        return [
            f"The {name} has ended by itself; its error was printed when it did"
            for name, client in clients.items()
            if not client.running
        ]

    def _start(self) -> None:
        self._producer.start()
        self._wait(self._is_mirrored, "each partition has a committed offset", seconds=90)
        self.reader.start()
        self._say("Airflow: making its database")
        self._airflow.migrate()
        self._airflow.environment.update(self._airflow.advice(self._mirrors))
        self._say("Airflow: starting")
        self._airflow.start()
        self._say("Airflow: waiting for the first snapshot of each topic")
        self._wait(self._all_have_snapshots, "each topic has a snapshot", seconds=_FIRST_SECONDS)

    def _is_mirrored(self) -> bool:
        lab = self._lab
        found = read_group(lab.source.bootstrap, lab.group, lab.topics)
        return all(
            one.committed is not None for offsets in found.values() for one in offsets.values()
        )

    def _all_have_snapshots(self) -> bool:
        return {hit.topic for hit in self.records.hits() if hit.is_snapshot} == set(
            self._lab.topics
        )

    def _beats(self, component: str, since: datetime) -> bool:
        heartbeat = self._airflow.heartbeat(component)
        return heartbeat is not None and heartbeat > since

    @staticmethod
    def _wait(ready: Callable[[], bool], what: str, *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with suppress(LabError):
                if ready():
                    return
            if time.monotonic() > deadline:
                raise LabError(f"not so after {seconds:g} s: {what}")
            time.sleep(_POLL_SECONDS)


def _rate(topic: int, partition: int) -> float:
    """Return how many messages a second a partition gets; no two neighbours are alike."""
    return 0.5 * (1 + (topic + partition) % 6)
