"""The one way a snapshot goes: collect, describe, store. Asynchronous, and nothing in it blocks.

The operator on a worker and the trigger in the triggerer both await it.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from airflow.providers.common.compat.sdk import redact

from airflow_lag_provider import config_cache
from airflow_lag_provider.collect import Collected, collect
from airflow_lag_provider.describe import GroupDescription
from airflow_lag_provider.errors import LagError, StoreError, UnexpectedError
from airflow_lag_provider.hooks.elasticsearch import Document
from airflow_lag_provider.hooks.elasticsearch_batch import write
from airflow_lag_provider.run import Run
from airflow_lag_provider.snapshot import TopicFailure, TopicSnapshot
from airflow_lag_provider.task_log import told
from airflow_lag_provider.watch import Watch

log = logging.getLogger(__name__)

_MOST_NAMED = 20


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
class Observation:
    """What became of the topics of one task.

    :param stored: the snapshots whose documents are in Elasticsearch.
    :param failed: the other topics.
    :param error: why they are among them: the first topic's, with notes on the others; ``None``
        when all are stored.
    :param recorded: whether each topic has its document, of a snapshot or of a failure.
    """

    # Not shown: asyncio.run makes the text of a result twice, for nobody.
    stored: tuple[StoredSnapshot, ...] = field(repr=False)
    failed: tuple[str, ...] = ()
    error: LagError | None = None
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class _Failed:
    """A topic without a snapshot, the error that says why, and when that was known."""

    topic: str
    error: LagError
    at: datetime


async def observe(watch: Watch, run: Run) -> Observation:
    """Take one snapshot of each topic and write one document for each, failures too.

    It raises no ``LagError``: a topic without a snapshot, or without its document, is a part of
    the result.
    """
    started_at = datetime.now(UTC)
    _quiet_libraries()
    results = await _take(watch, run)
    index = run.index_name(watch.index)
    documents = [
        _document(result, watch=watch, run=run, started_at=started_at) for result in results
    ]
    try:
        fates: Sequence[LagError | None] = await write(
            *documents, elasticsearch_conn_id=watch.elasticsearch_conn_id, index=index
        )
    except StoreError as error:
        fates = [error] * len(documents)
    except Exception as error:
        fates = [await _unexpected(error)] * len(documents)
    return _observation(results, documents, fates, index=index)


async def _take(watch: Watch, run: Run) -> list[TopicSnapshot | _Failed]:
    """Return a snapshot or a failure for each topic, in the order of ``watch.topics``."""
    try:
        watch.check()
        collected = await _collected(watch, run, occasion=run.occasion)
        if run.try_number > 1 and collected.ended_at < run.started_at:
            # A cleared run shares its minute and try with a retry that came before it.
            collected = await _collected(watch, run, occasion=run.started_at)
        unconfigured = await _unconfigured(watch, collected.description)
    except LagError as error:
        failed_at = datetime.now(UTC)
        return [_Failed(topic, error, failed_at) for topic in watch.topics]
    except Exception as error:
        # The run must leave a document whatever happens.
        unexpected = await _unexpected(error)
        return [_Failed(topic, unexpected, datetime.now(UTC)) for topic in watch.topics]
    return [
        _topic_result(collected, topic, watch=watch, unconfigured=unconfigured)
        for topic in watch.topics
    ]


async def _collected(watch: Watch, run: Run, *, occasion: Hashable) -> Collected:
    return await collect(
        ssh_conn_id=watch.ssh_conn_id,
        command=watch.command,
        group=watch.group,
        timeout=watch.timeout,
        occasion=occasion,
        attempt=run.try_number,
    )


async def _unconfigured(watch: Watch, description: GroupDescription) -> tuple[str, ...] | None:
    """Return those of the group's topics that the configuration doesn't name, sorted."""
    if watch.mirrors_file is None:
        return None
    configured = await config_cache.recent_topics(watch.mirrors_file, watch.mirror)
    return None if configured is None else _beside(description.topics, configured)


@lru_cache(maxsize=16)
def _beside(topics: tuple[str, ...], configured: frozenset[str]) -> tuple[str, ...]:
    """Return the topics that aren't configured; a thousand tasks of a minute ask for the same."""
    return tuple(topic for topic in topics if topic not in configured)


def _topic_result(
    collected: Collected, topic: str, *, watch: Watch, unconfigured: tuple[str, ...] | None
) -> TopicSnapshot | _Failed:
    description = collected.description
    try:
        partitions = description.topic(topic)
    except LagError as error:
        return _Failed(topic, error, collected.ended_at)
    return TopicSnapshot(
        mirror=watch.mirror,
        group=watch.group,
        topic=topic,
        taken_at=collected.ended_at,
        group_state=description.state,
        partitions=partitions,
        unconfigured_topics=unconfigured,
    )


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


def _observation(
    results: Sequence[TopicSnapshot | _Failed],
    documents: Sequence[Document],
    fates: Sequence[LagError | None],
    *,
    index: str,
) -> Observation:
    """Return what became of the topics.

    :param fates: why a document could not be written, ``None`` for one that was.
    """
    stored: list[StoredSnapshot] = []
    errors: dict[str, LagError] = {}
    unwritten: LagError | None = None
    for result, document, fate in zip(results, documents, fates, strict=True):
        if isinstance(result, _Failed):
            errors[result.topic] = result.error
            unwritten = unwritten or fate
        elif fate:
            errors[result.topic] = fate
        else:
            stored.append(StoredSnapshot(result, document.id, index))
    # A missing snapshot says more than a document that wasn't written.
    taken = {one.topic for one in results if isinstance(one, TopicSnapshot)}
    error = next((errors[topic] for topic in sorted(errors, key=taken.__contains__)), None)
    if error and len(errors) > 1:
        named = ", ".join(list(errors)[:_MOST_NAMED])
        more = f" and {len(errors) - _MOST_NAMED} more" if len(errors) > _MOST_NAMED else ""
        error.add_note(f"Failed topics, {len(errors)} of {len(results)}: {named}{more}.")
    if error and unwritten:
        error.add_note(f"The failure document could not be written either: {unwritten}")
    return Observation(tuple(stored), tuple(errors), error, recorded=not any(fates))


async def _unexpected(error: Exception) -> UnexpectedError:
    """Return this package's error for one that it does not expect; the log keeps the traceback."""
    await told(log.error, "Something happened that this package does not expect.", exc_info=error)
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
