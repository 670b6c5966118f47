"""The DAG run a document belongs to: what makes the document unique, and which try of it wins.

A document's external version says how much is known of the run, and Elasticsearch keeps the
highest: 0 for a run that Airflow ended without our code, the try number for a failure that our
code met, and one above any try for a snapshot. So each replaces what is below it and nothing else,
whichever is written last; of two that Airflow ended the first stays.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

# Above any try number, so that a success replaces the failure of every try of its run, and no
# failure ever replaces a success.
SUCCESS_VERSION = 1_000_000
# Below any try number: that Airflow ended the run is said only where nothing else is known.
ENDED_VERSION = 0
# Documents are keyed by their run, so overlapping does no harm; with 1, the closing of a run
# would delay the next one.
MAX_ACTIVE_RUNS = 3
# Beyond the describe's own limit: waiting for its turn (50 s), asking for earlier snapshots (6 s),
# reading the connection (5 s), seeing to the index and writing the document (15 s) and those that
# waited (5 s), and what Airflow needs, so that a run ends with its reason instead of being killed.
EXECUTION_MARGIN = timedelta(seconds=95)


def document_id(*, mirror: str, topic: str, run_id: str, started_at: datetime) -> str:
    """Return the ``_id`` of the document of a topic and a DAG run, see :class:`Run`."""
    start = started_at.astimezone(UTC).isoformat(timespec="microseconds")
    identity = json.dumps([mirror, topic, run_id, start])
    return hashlib.sha256(identity.encode()).hexdigest()[:40]


def index_name(pattern: str, *, scheduled_at: datetime) -> str:
    """Return the index for the documents of a run.

    A date in it is that of the scheduled instant, so that all tries meet in one index.

    :param pattern: an index name, which may hold ``%Y``, ``%m``, ``%d`` and ``%H``.
    """
    return scheduled_at.astimezone(UTC).strftime(pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One try of one task of one DAG run.

    :param run_type: Airflow's word for it: ``scheduled``, ``manual``, ``backfill`` and others.
    :param try_number: from 1.
    :param scheduled_at: the instant the run was due, with time zone.
    :param started_at: the DAG run's ``start_date``: Airflow keeps it through retries and renews
        it when the run is cleared.
    """

    dag_id: str
    task_id: str
    run_id: str
    run_type: str
    try_number: int
    scheduled_at: datetime
    started_at: datetime

    @property
    def occasion(self) -> datetime | str:
        """What tasks that may share one describe have in common.

        The scheduled runs of a minute share it. Somebody who runs a DAG by hand wants to see what
        is now, so that run shares with its own tasks alone.
        """
        return self.scheduled_at if self.run_type == "scheduled" else self.run_id

    def document_id(self, *, mirror: str, topic: str) -> str:
        """Return the ``_id`` of the topic's document: the tries of a run share it, runs don't."""
        return document_id(
            mirror=mirror, topic=topic, run_id=self.run_id, started_at=self.started_at
        )

    def version(self, *, succeeded: bool) -> int:
        """Return the document's external version: of two, Elasticsearch keeps the higher one."""
        return SUCCESS_VERSION if succeeded else self.try_number

    def index_name(self, pattern: str) -> str:
        """Return the index for this run's documents, see :func:`index_name`."""
        return index_name(pattern, scheduled_at=self.scheduled_at)

    def to_document(self) -> dict[str, Any]:
        """Return the field ``airflow`` of the run's documents."""
        return {
            "dag_id": self.dag_id,
            "task_id": self.task_id,
            "run_id": self.run_id,
            "run_type": self.run_type,
            "try_number": self.try_number,
            "scheduled_at": self.scheduled_at.astimezone(UTC).isoformat(),
        }
