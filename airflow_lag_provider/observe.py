"""The one way a snapshot goes: collect, describe, store. Asynchronous, and nothing in it blocks.

The operator on a worker and the trigger in the triggerer both await it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import redact

from airflow_lag_provider.collect import collect
from airflow_lag_provider.describe import GroupDescription
from airflow_lag_provider.errors import LagError, StoreError, UnexpectedError
from airflow_lag_provider.hooks.elasticsearch import Document, LagElasticsearchHook
from airflow_lag_provider.run import Run
from airflow_lag_provider.snapshot import TopicFailure, TopicSnapshot
from airflow_lag_provider.watch import Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot whose document is in Elasticsearch.

    :param document_id: the document's ``_id``.
    :param index: its index.
    """

    snapshot: TopicSnapshot
    document_id: str
    index: str


@dataclass(frozen=True, slots=True)
class _Failed:
    """A topic without a snapshot, the error that says why, and when that was known."""

    topic: str
    error: LagError
    at: datetime


async def observe(watch: Watch, run: Run) -> list[StoredSnapshot]:
    """Take one snapshot of each topic and write one document for each, failures too.

    :raises DescribeError: a topic has no snapshot; its failure document is written.
    :raises StoreError: a snapshot was taken, but its document could not be written.
    """
    started_at = datetime.now(UTC)
    _quiet_libraries()
    results = await _take(watch, run)
    try:
        stored = await _store(results, watch=watch, run=run, started_at=started_at)
    except StoreError as error:
        _raise_failures(results, and_also=error)
        raise
    except Exception as error:
        unexpected = _unexpected(error)
        _raise_failures(results, and_also=unexpected)
        raise unexpected from error
    _raise_failures(results)
    return stored


async def _take(watch: Watch, run: Run) -> list[TopicSnapshot | _Failed]:
    """Return a snapshot or a failure for each topic, in the order of ``watch.topics``."""
    try:
        watch.check()
        log.info("Describe command: %s", watch.command)
        collected = await collect(
            ssh_conn_id=watch.ssh_conn_id,
            command=watch.command,
            group=watch.group,
            timeout=watch.timeout,
            scheduled_at=run.scheduled_at,
            attempt=run.try_number,
        )
    except LagError as error:
        failed_at = datetime.now(UTC)
        return [_Failed(topic, error, failed_at) for topic in watch.topics]
    except Exception as error:
        # The run must leave a document whatever happens.
        unexpected = _unexpected(error)
        return [_Failed(topic, unexpected, datetime.now(UTC)) for topic in watch.topics]
    return [
        _topic_result(collected.description, topic, watch=watch, taken_at=collected.ended_at)
        for topic in watch.topics
    ]


def _topic_result(
    description: GroupDescription, topic: str, *, watch: Watch, taken_at: datetime
) -> TopicSnapshot | _Failed:
    try:
        partitions = description.topic(topic)
    except LagError as error:
        return _Failed(topic, error, taken_at)
    return TopicSnapshot(
        mirror=watch.mirror,
        group=watch.group,
        topic=topic,
        taken_at=taken_at,
        group_state=description.state,
        partitions=partitions,
        unconfigured_topics=watch.unconfigured(description.topics),
    )


async def _store(
    results: list[TopicSnapshot | _Failed], *, watch: Watch, run: Run, started_at: datetime
) -> list[StoredSnapshot]:
    """Write one document for each result; return the snapshots among them."""
    index = run.index_name(watch.index)
    documents = [
        _document(result, watch=watch, run=run, started_at=started_at) for result in results
    ]
    hook = LagElasticsearchHook(elasticsearch_conn_id=watch.elasticsearch_conn_id, index=index)
    await hook.write(*documents)
    return [
        StoredSnapshot(snapshot=result, document_id=document.id, index=index)
        for result, document in zip(results, documents, strict=True)
        if isinstance(result, TopicSnapshot)
    ]


def _document(
    result: TopicSnapshot | _Failed, *, watch: Watch, run: Run, started_at: datetime
) -> Document:
    """Return the document of one topic and run."""
    succeeded = isinstance(result, TopicSnapshot)
    event: dict[str, Any] = {
        "outcome": "success" if succeeded else "failure",
        "duration": _nanoseconds(started_at, datetime.now(UTC)),
        "delay": _nanoseconds(run.scheduled_at, started_at),
    }
    body = result if isinstance(result, TopicSnapshot) else _failure(result, watch=watch)
    source = {**body.to_document(), "event": event, "airflow": run.to_document()}
    return Document(
        id=run.document_id(mirror=watch.mirror, topic=result.topic),
        version=run.version(succeeded=succeeded),
        source=source,
    )


def _failure(failed: _Failed, *, watch: Watch) -> TopicFailure:
    return TopicFailure(
        mirror=watch.mirror,
        group=watch.group,
        topic=failed.topic,
        failed_at=failed.at,
        error_type=type(failed.error).__name__,
        # Airflow masks the secrets it knows in its logs; nobody does so in a document.
        error_message=str(redact(str(failed.error))),
    )


def _raise_failures(
    results: list[TopicSnapshot | _Failed], *, and_also: LagError | None = None
) -> None:
    """Raise the first topic's error when topics failed, and say what else went wrong."""
    failed = [result for result in results if isinstance(result, _Failed)]
    if not failed:
        return
    error = failed[0].error
    if len(failed) > 1:
        error.add_note(f"Topics without a snapshot: {', '.join(one.topic for one in failed)}.")
    if and_also:
        error.add_note(f"The failure document could not be written either: {and_also}")
    raise error


def _unexpected(error: Exception) -> UnexpectedError:
    """Return this package's error for one that it does not expect; the log keeps the traceback."""
    log.error("Something happened that this package does not expect.", exc_info=error)
    unexpected = UnexpectedError(f"{type(error).__name__}: {error}.")
    unexpected.__cause__ = error
    return unexpected


def _quiet_libraries() -> None:
    """Keep the clients' twenty lines for each run out of the task's log, unless they are wanted."""
    for name in ("asyncssh", "elastic_transport"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def _nanoseconds(start: datetime, end: datetime) -> int:
    span = end - start
    return ((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds) * 1_000
