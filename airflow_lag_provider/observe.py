"""The one way a snapshot goes: collect, describe, compare, store. Asynchronous; nothing blocks.

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

from airflow_lag_provider import config_cache, remarks
from airflow_lag_provider.collect import Collected, collect
from airflow_lag_provider.describe import GroupDescription
from airflow_lag_provider.errors import LagError, TopicNotInGroup, UnexpectedError
from airflow_lag_provider.history import compared
from airflow_lag_provider.hooks.elasticsearch import Document
from airflow_lag_provider.hooks.elasticsearch_history import HORIZON
from airflow_lag_provider.hooks.elasticsearch_spool import Waits, settle, store
from airflow_lag_provider.recall import Known, known_shapes, remember
from airflow_lag_provider.run import Run
from airflow_lag_provider.snapshot import TopicFailure, TopicSnapshot
from airflow_lag_provider.task_log import told
from airflow_lag_provider.watch import Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot whose document is in Elasticsearch, or waits for it in the spool.

    :param document_id: the document's ``_id``.
    :param index: its index.
    :param waits: whether it waits in the spool.
    """

    snapshot: TopicSnapshot
    document_id: str
    index: str
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What became of the topics of one task.

    :param stored: the snapshots whose documents are in Elasticsearch or wait for it.
    :param failed: the other topics.
    :param error: why they are among them: the first topic's, with notes on the others; ``None``
        when all are stored.
    :param others: all that went wrong besides: with other topics, and with their documents.
    """

    # Not shown: asyncio.run makes the text of a result twice, for nobody.
    stored: tuple[StoredSnapshot, ...] = field(repr=False)
    failed: tuple[str, ...] = ()
    error: LagError | None = None
    others: tuple[LagError, ...] = field(default=(), repr=False)

    @property
    def retry_helps(self) -> bool:
        """Whether another try may store more: a snapshot, or the document of a failure."""
        return any(one.retriable for one in (self.error, *self.others) if one)


@dataclass(frozen=True, slots=True)
class _Failed:
    """A topic without a snapshot, the error that says why, and when that was known."""

    topic: str
    error: LagError
    at: datetime
    unconfigured: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Taken:
    """A snapshot or a failure for each topic, and the earlier ones that they were compared with."""

    results: list[TopicSnapshot | _Failed]
    known: Known = field(default_factory=dict)


async def observe(watch: Watch, run: Run) -> Observation:
    """Take one snapshot of each topic and write one document for each, failures too.

    It raises no ``LagError``: a topic without a snapshot, or without its document, is a part of
    the result.
    """
    started_at = datetime.now(UTC)
    _quiet_libraries()
    taken = await _take(watch, run)
    index = run.index_name(watch.index)
    documents = [
        _document(result, watch=watch, run=run, started_at=started_at) for result in taken.results
    ]
    try:
        fates: Sequence[Waits | LagError | None] = await store(
            *documents, elasticsearch_conn_id=watch.elasticsearch_conn_id, index=index
        )
    except Exception as error:
        fates = [await _unexpected(error)] * len(documents)
    seen = _observation(taken.results, documents, fates, index=index)
    remember(
        watch,
        run,
        known=taken.known,
        stored=(one.snapshot for one in seen.stored),
        absent=[one.topic for one in taken.results if _is_absent(one)],
    )
    return seen


async def observe_alone(watch: Watch, run: Run) -> Observation:
    """Observe on an event loop that ends with it, as that of a task on a worker does.

    Nobody else there would send what waits in the spool.
    """
    seen = await observe(watch, run)
    await settle()
    return seen


async def _take(watch: Watch, run: Run) -> _Taken:
    """Return a snapshot or a failure for each topic, in the order of ``watch.topics``."""
    try:
        watch.check()
        collected = await _collected(watch, run, occasion=run.occasion)
        if run.try_number > 1 and collected.ended_at < run.started_at:
            # A cleared run shares its minute and try with a retry that came before it.
            collected = await _collected(watch, run, occasion=run.started_at)
        unconfigured = await _unconfigured(watch, collected.description)
        known = await known_shapes(watch, run, before=collected.began_at or collected.ended_at)
        results = [
            _topic_result(collected, topic, watch=watch, unconfigured=unconfigured, known=known)
            for topic in watch.topics
        ]
    except LagError as error:
        failed_at = datetime.now(UTC)
        return _Taken([_Failed(topic, error, failed_at) for topic in watch.topics])
    except Exception as error:
        # The run must leave a document whatever happens.
        unexpected = await _unexpected(error)
        return _Taken([_Failed(topic, unexpected, datetime.now(UTC)) for topic in watch.topics])
    snapshots = [one for one in results if isinstance(one, TopicSnapshot)]
    words = "\n".join(remarks.about(collected.description, snapshots, unconfigured))
    if words:
        await told(log.warning, "%s", words)
    return _Taken(results, known)


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
    collected: Collected,
    topic: str,
    *,
    watch: Watch,
    unconfigured: tuple[str, ...] | None,
    known: Known,
) -> TopicSnapshot | _Failed:
    description = collected.description
    try:
        partitions = description.topic(topic)
    except TopicNotInGroup as error:
        absent = TopicNotInGroup(f"{error.message}{_last_seen(topic, known)}")
        return _Failed(topic, absent, collected.ended_at, unconfigured)
    snapshot = TopicSnapshot(
        mirror=watch.mirror,
        group=watch.group,
        topic=topic,
        taken_at=collected.ended_at,
        group_state=description.state,
        partitions=partitions,
        unconfigured_topics=unconfigured,
    )
    return compared(snapshot, known[topic]) if topic in known else snapshot


def _last_seen(topic: str, known: Known) -> str:
    """Return a sentence on when a topic was in its group; nothing when that isn't known."""
    if topic not in known:
        return ""
    shape = known[topic]
    if shape is None:
        return f" No snapshot of the last {HORIZON.days} days had it."
    return f" It was there until {shape.at:%Y-%m-%d %H:%M:%S} UTC."


def _is_absent(result: TopicSnapshot | _Failed) -> bool:
    return isinstance(result, _Failed) and isinstance(result.error, TopicNotInGroup)


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
        unconfigured_topics=failed.unconfigured,
    )


def _observation(
    results: Sequence[TopicSnapshot | _Failed],
    documents: Sequence[Document],
    fates: Sequence[Waits | LagError | None],
    *,
    index: str,
) -> Observation:
    """Return what became of the topics.

    :param fates: why a document could not be written, ``None`` for one that was, or that it waits.
    """
    stored: list[StoredSnapshot] = []
    errors: dict[str, LagError] = {}
    unwritten: LagError | None = None
    for result, document, fate in zip(results, documents, fates, strict=True):
        if isinstance(result, _Failed):
            errors[result.topic] = result.error
            unwritten = unwritten or (fate if isinstance(fate, LagError) else None)
        elif isinstance(fate, LagError):
            errors[result.topic] = fate
        else:
            stored.append(StoredSnapshot(result, document.id, index, waits=fate is not None))
    # A missing snapshot says more than a document that wasn't written.
    taken = {one.topic for one in results if isinstance(one, TopicSnapshot)}
    error = next((errors[topic] for topic in sorted(errors, key=taken.__contains__)), None)
    if error and len(errors) > 1:
        named = remarks.named(list(errors))
        error.add_note(f"Failed topics, {len(errors)} of {len(results)}: {named}.")
    if error and unwritten:
        error.add_note(f"The failure document could not be written either: {unwritten}")
    refused = [fate for fate in fates if isinstance(fate, LagError)]
    return Observation(tuple(stored), tuple(errors), error, (*errors.values(), *refused))


async def _unexpected(error: Exception) -> UnexpectedError:
    """Return this package's error for one that it does not expect; the log keeps the traceback."""
    await told(log.error, "Something happened that this package does not expect.", exc_info=error)
    unexpected = UnexpectedError(f"{type(error).__name__}: {error}.")
    unexpected.__cause__ = error
    return unexpected


def _quiet_libraries() -> None:
    """Keep asyncssh's lines for each run out of the task's log, unless they are wanted."""
    logger = logging.getLogger("asyncssh")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)


def _nanoseconds(start: datetime, end: datetime) -> int:
    span = end - start
    return ((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds) * 1_000
