"""The document of a topic and a run: the snapshot, or why there is none, and what run it was.

Whoever leaves a document makes it here: the pipeline, and what stands in for it where Airflow
ended the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import redact

from airflow_lag_provider.errors import LagError
from airflow_lag_provider.run import ENDED_VERSION, Run
from airflow_lag_provider.snapshot import TopicFailure, TopicSnapshot
from airflow_lag_provider.watch import Watch


@dataclass(frozen=True, slots=True)
class Document:
    """One document, ready to be written.

    :param id: its ``_id``, the same for every try of a run.
    :param version: its external version: of two with one id, the higher stays.
    :param source: its fields.
    """

    id: str
    version: int
    source: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """A topic without a snapshot.

    :param error: why.
    :param at: when that was known, with time zone.
    :param unconfigured: see ``TopicSnapshot.unconfigured_topics``.
    """

    topic: str
    error: LagError
    at: datetime
    unconfigured: tuple[str, ...] | None = None


def run_document(
    result: TopicSnapshot | Failed, *, watch: Watch, run: Run, started_at: datetime
) -> Document:
    """Return the document of a topic and a run that our own code brought to its end.

    :param started_at: when the work began, with time zone.
    """
    return _document(
        result,
        watch=watch,
        run=run,
        version=run.version(succeeded=isinstance(result, TopicSnapshot)),
        duration=_nanoseconds(started_at, datetime.now(UTC)),
        delay=_nanoseconds(run.scheduled_at, started_at),
        airflow=run.to_document(),
    )


def ended_document(
    failed: Failed, *, watch: Watch, run: Run, task_id: str | None = None
) -> Document:
    """Return the document of a topic and a run that Airflow ended; each other one replaces it.

    :param task_id: another task of the run, of which nobody says which try it was.
    """
    airflow = run.to_document()
    if task_id not in (None, run.task_id):
        airflow |= {"task_id": task_id, "try_number": None}
    # When the work began, and whether it did, nobody knows.
    return _document(
        failed,
        watch=watch,
        run=run,
        version=ENDED_VERSION,
        duration=None,
        delay=None,
        airflow=airflow,
    )


def _document(
    result: TopicSnapshot | Failed,
    *,
    watch: Watch,
    run: Run,
    version: int,
    duration: int | None,
    delay: int | None,
    airflow: Mapping[str, Any],
) -> Document:
    body = _failure(result, watch=watch) if isinstance(result, Failed) else result
    outcome = "failure" if isinstance(result, Failed) else "success"
    event = {"outcome": outcome, "duration": duration, "delay": delay}
    return Document(
        id=run.document_id(mirror=watch.mirror, topic=result.topic),
        version=version,
        source={**body.to_document(), "event": event, "airflow": airflow},
    )


def _failure(failed: Failed, *, watch: Watch) -> TopicFailure:
    return TopicFailure(
        mirror=watch.mirror,
        group=watch.group,
        topic=failed.topic,
        failed_at=failed.at,
        error_type=type(failed.error).__name__,
        # Airflow masks the secrets it knows in its logs; nobody does so in a document.
        error_message=str(redact(str(failed.error))),
        unconfigured_topics=failed.unconfigured,
    )


def _nanoseconds(start: datetime, end: datetime) -> int:
    span = end - start
    return ((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds) * 1_000
