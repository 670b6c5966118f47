"""When documents become searchable, runs are closed, and the triggerer's event loop stood still."""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lab.elasticsearch import Elasticsearch
from lab.errors import LabError, PartError
from lab.postgresql import rows

_BLOCKED = "async thread was blocked"
_BLOCKED_AT = re.compile(rf"(\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d).*{_BLOCKED}")


class Arrivals:
    """Counts the searchable documents of each scheduled instant, again and again.

    What is new since the last look became searchable at most that long ago.
    """

    def __init__(self, elasticsearch: Elasticsearch, index: str) -> None:
        self._elasticsearch = elasticsearch
        self._path = f"/{index}/_search?ignore_unavailable=true"
        self._counts: Counter[datetime] = Counter()
        self._delays: dict[datetime, list[float]] = {}

    def look(self) -> None:
        """Take a count now."""
        body = {
            "size": 0,
            "query": {"term": {"event.outcome": "success"}},
            "aggs": {"due": {"terms": {"field": "airflow.scheduled_at", "size": 100,
                                       "order": {"_key": "desc"}}}},
        }  # fmt: skip
        # The index is not there at first.
        with suppress(PartError):
            answer = self._elasticsearch.request("POST", self._path, body)
            now = datetime.now(UTC)
            for bucket in answer.get("aggregations", {}).get("due", {}).get("buckets", ()):
                due = datetime.fromtimestamp(bucket["key"] / 1000, UTC)
                new = bucket["doc_count"] - self._counts[due]
                self._counts[due] += new
                delay = (now - due).total_seconds()
                self._delays.setdefault(due, []).extend([delay] * new)

    def wait_for(self, count: int, *, seconds: float) -> None:
        """Wait until one instant has so many documents.

        :raises TimeoutError: none has after that many seconds.
        """
        deadline = time.monotonic() + seconds
        while max(self._counts.values(), default=0) < count:
            self.look()
            time.sleep(1)
            if time.monotonic() > deadline:
                raise TimeoutError(f"no minute with {count} documents: {self._counts}")

    def beginnings(self, instants: Sequence[datetime]) -> list[float]:
        """Return how long after its scheduled instant the work for each document began."""
        return [delay for due in instants for delay in self._beginnings(due)]

    def _beginnings(self, due: datetime) -> list[float]:
        # Elasticsearch hands out no more than 10,000 at once: one instant has less.
        body = {
            "size": 10_000,
            "query": {"term": {"airflow.scheduled_at": due.isoformat()}},
            "_source": ["event.delay"],
        }
        hits = self._elasticsearch.request("POST", self._path, body)["hits"]["hits"]
        return [hit["_source"]["event"]["delay"] / 1e9 for hit in hits]

    def of(self, instants: Sequence[datetime]) -> list[float]:
        """Return the delay of each document of these instants, in seconds."""
        return [delay for due in instants for delay in self._delays.get(due, ())]


def run_delays(url: str, column: str, instants: Sequence[datetime], *, old: bool) -> list[float]:
    """Return how long after its scheduled instant each DAG run of these instants got somewhere.

    :param column: ``queued_at`` (the run was made), ``start_date`` or ``end_date`` (closed).
    :param old: whether the database is Airflow 2.11's.
    """
    return _delays(url, "dag_run AS run", f"run.{column}", instants, old=old)


def task_delays(url: str, column: str, instants: Sequence[datetime], *, old: bool) -> list[float]:
    """Return how long after its scheduled instant each task of these instants got somewhere.

    :param column: ``start_date`` (handed to the triggerer, or started by a worker) or ``end_date``.
    :param old: whether the database is Airflow 2.11's.
    """
    tables = "dag_run AS run JOIN task_instance AS task USING (dag_id, run_id)"
    return _delays(url, tables, f"task.{column}", instants, old=old)


def _delays(
    url: str, tables: str, column: str, instants: Sequence[datetime], *, old: bool
) -> list[float]:
    due = "run.data_interval_end" if old else "run.run_after"
    query = (
        f"SELECT extract(epoch FROM {column} - {due}) FROM {tables} "  # noqa: S608 - our own words
        f"WHERE {due} >= :first AND {due} <= :last AND {column} IS NOT NULL "
        "AND run.run_type = 'scheduled'"
    )
    return [float(row[0]) for row in rows(url, query, first=instants[0], last=instants[-1])]


def wait_for_runs(url: str, count: int, *, old: bool, seconds: float) -> None:
    """Wait until so many scheduled DAG runs of the last minutes are closed.

    :raises TimeoutError: they are not after that many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        now = datetime.now(UTC)
        closed = run_delays(url, "end_date", [now - timedelta(minutes=10), now], old=old)
        if len(closed) >= count:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(closed)} of {count} runs are closed")
        time.sleep(2)


def quantiles(values: Sequence[float]) -> str | None:
    """Return median, 95 %, 99 % and the largest of some values, as text."""
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return " / ".join(f"{value:.1f}" for value in (cuts[49], cuts[94], cuts[98], max(values)))


def blocked_at(logs: Iterable[Path]) -> list[datetime]:
    """Return when Airflow said that the triggerer's event loop had stood still, to the second.

    :raises LabError: a line doesn't say when, in front.
    """
    text = "\n".join(file.read_text(errors="replace") for file in logs)
    times = _BLOCKED_AT.findall(text)
    if len(times) != text.count(_BLOCKED):
        raise LabError(f"A line of Airflow has no time before {_BLOCKED!r}.")
    return [datetime.fromisoformat(one).replace(tzinfo=UTC) for one in times]
