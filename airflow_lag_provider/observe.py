"""The one way a snapshot goes: collect, describe, compare, store. Asynchronous; nothing blocks.

The operator on a worker and the trigger in the triggerer both await it.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from airflow_lag_provider import config_cache, remarks
from airflow_lag_provider.collect import Collected, collect
from airflow_lag_provider.describe import GroupDescription
from airflow_lag_provider.documents import Failed, run_document
from airflow_lag_provider.errors import LagError, TopicNotInGroup, UnexpectedError
from airflow_lag_provider.history import compared
from airflow_lag_provider.hooks.elasticsearch_history import HORIZON
from airflow_lag_provider.hooks.elasticsearch_spool import Waits, settle, store
from airflow_lag_provider.observation import Observation
from airflow_lag_provider.recall import Known, known_shapes, remember
from airflow_lag_provider.run import Run
from airflow_lag_provider.snapshot import TopicSnapshot
from airflow_lag_provider.task_log import told, told_unexpected
from airflow_lag_provider.watch import Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A snapshot or a failure for each topic, and the earlier ones that they were compared with."""

    results: list[TopicSnapshot | Failed]
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
        run_document(result, watch=watch, run=run, started_at=started_at)
        for result in taken.results
    ]
    try:
        fates: Sequence[Waits | LagError | None] = await store(
            *documents, elasticsearch_conn_id=watch.elasticsearch_conn_id, index=index
        )
    except Exception as error:
        fates = [await _unexpected(error)] * len(documents)
    seen = Observation.of(taken.results, documents, fates, index=index)
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
        return _Taken([Failed(topic, error, failed_at) for topic in watch.topics])
    except Exception as error:
        # The run must leave a document whatever happens.
        unexpected = await _unexpected(error)
        return _Taken([Failed(topic, unexpected, datetime.now(UTC)) for topic in watch.topics])
    snapshots = [one for one in results if isinstance(one, TopicSnapshot)]
    words = "\n".join(remarks.about(collected.description, snapshots, unconfigured))
    if words:
        await told(log.warning, "%s", words)
    return _Taken(results, known)


async def _collected(watch: Watch, run: Run, *, occasion: Hashable) -> Collected:
    return await collect(
        ssh_conn_id=watch.ssh_conn_id,
        command=watch.command,
        bootstrap_servers=watch.bootstrap_servers,
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
) -> TopicSnapshot | Failed:
    description = collected.description
    try:
        partitions = description.topic(topic)
    except TopicNotInGroup as error:
        absent = TopicNotInGroup(f"{error.message}{_last_seen(topic, known)}")
        return Failed(topic, absent, collected.ended_at, unconfigured)
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


def _is_absent(result: TopicSnapshot | Failed) -> bool:
    return isinstance(result, Failed) and isinstance(result.error, TopicNotInGroup)


async def _unexpected(error: Exception) -> UnexpectedError:
    """Return this package's error for one that it does not expect; the log keeps the traceback."""
    await told_unexpected(log, error)
    unexpected = UnexpectedError(f"{type(error).__name__}: {error}.")
    unexpected.__cause__ = error
    return unexpected


def _quiet_libraries() -> None:
    """Keep asyncssh's lines for each run out of the task's log, unless they are wanted."""
    logger = logging.getLogger("asyncssh")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
