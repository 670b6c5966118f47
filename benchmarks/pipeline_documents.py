"""From a group's description to the text that a bulk request carries."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from elasticsearch.serializer import NdjsonSerializer

from airflow_lag_provider import observe as pipeline
from airflow_lag_provider import recall
from airflow_lag_provider.collect import Collected
from airflow_lag_provider.describe import parse
from airflow_lag_provider.documents import Document
from airflow_lag_provider.hooks.elasticsearch_history import Question
from airflow_lag_provider.run import Run
from airflow_lag_provider.watch import Watch
from benchmarks import outputs, projects
from benchmarks.timing import Course

_DUE = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)


def rows(course: Course, *, short: bool) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    logging.disable(logging.INFO)
    found = []
    for size in (20,) if short else (100, 1_000):
        with tempfile.TemporaryDirectory() as folder:
            group = _Group(size, projects.write(Path(folder), topics=size))
            found += [
                course.row("description to documents", size, "topic", group.documents),
                course.row("documents to JSON", size, "topic", group.serialised),
            ]
    return found


class _Group:
    """A group whose topics are all watched by one task, as in layout group.

    :param mirrors: the configuration that names them.
    """

    def __init__(self, topics: int, mirrors: Path) -> None:
        text = outputs.output("3.9", topics * outputs.PARTITIONS)
        described = parse(text, "", 0, group=outputs.GROUP)
        self.collected = Collected(described, _DUE + timedelta(seconds=3))
        names = tuple(outputs.topic(number) for number in range(topics))
        self.watch = Watch(
            mirror="oasis",
            topics=names,
            group=outputs.GROUP,
            bootstrap_servers=("b-1.source:9092", "b-2.source:9092"),
            ssh_conn_id="mirrormaker",
            elasticsearch_conn_id="elasticsearch_default",
            index="consumer_lag",
            timeout=25.0,
            mirrors_file=str(mirrors),
        )
        self.run = Run(
            dag_id="consumer_lag.oasis",
            task_id="all_topics",
            run_id="scheduled__2026-11-22T13:35:00+00:00",
            run_type="scheduled",
            try_number=1,
            scheduled_at=_DUE,
            started_at=_DUE + timedelta(seconds=1),
        )
        self.made = self.documents()

    def documents(self) -> Sequence[Document]:
        """Return what ``observe`` hands to Elasticsearch for the description."""
        made: list[Document] = []

        async def collect(**_: Any) -> Collected:
            return self.collected

        async def write(*documents: Document, **_: Any) -> tuple[None, ...]:
            made.extend(documents)
            return (None,) * len(documents)

        async def latest(*questions: Question, **_: Any) -> tuple[None, ...]:
            return (None,) * len(questions)

        with (
            patch.object(pipeline, "collect", collect),
            patch.object(pipeline, "store", write),
            patch.object(recall, "latest", latest),
        ):
            seen = asyncio.run(pipeline.observe(self.watch, self.run))
        if seen.failed or len(made) != len(self.watch.topics):
            raise ValueError(f"{len(made)} documents; failed: {seen.failed}")
        return made

    def serialised(self) -> bytes:
        """Return the documents as the client of Elasticsearch writes them."""
        lines = [line for one in self.made for line in ({"index": {"_id": one.id}}, one.source)]
        return NdjsonSerializer().dumps(lines)
