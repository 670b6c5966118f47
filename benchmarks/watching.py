"""When documents become searchable and runs are closed."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy import create_engine, text

from lab.elasticsearch import Elasticsearch
from lab.errors import PartError


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

    def of(self, instants: Sequence[datetime]) -> list[float]:
        """Return the delay of each document of these instants, in seconds."""
        return [delay for due in instants for delay in self._delays.get(due, ())]


def run_ends(url: str, instants: Sequence[datetime], *, old: bool) -> list[float]:
    """Return how long after its scheduled instant each DAG run of these instants was closed.

    :param old: whether the database is Airflow 2.11's.
    """
    due = "data_interval_end" if old else "run_after"
    query = text(
        f"SELECT extract(epoch FROM end_date - {due}) FROM dag_run "  # noqa: S608 - our own word
        f"WHERE {due} >= :first AND {due} <= :last AND end_date IS NOT NULL "
        "AND run_type = 'scheduled'"
    )
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(query, {"first": instants[0], "last": instants[-1]})
        return [float(row[0]) for row in found]


def quantiles(values: Sequence[float]) -> str | None:
    """Return median, 95 %, 99 % and the largest of some values, as text."""
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return " / ".join(f"{value:.1f}" for value in (cuts[49], cuts[94], cuts[98], max(values)))
