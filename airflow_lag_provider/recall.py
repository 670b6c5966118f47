"""What this process knows of the topics' earlier snapshots, and whom it asks when it doesn't.

A process remembers the partitions of the snapshots that it stored in the minute before. What it
doesn't remember, as after its start, or when another triggerer had the topic, is looked for among
the documents that wait for Elasticsearch on this host, and Elasticsearch is asked for it.
Nothing here fails a snapshot or holds it up for longer than a few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from airflow_lag_provider.history import Shape, shape_after
from airflow_lag_provider.hooks.elasticsearch_batch import latest
from airflow_lag_provider.hooks.elasticsearch_history import HORIZON, Question
from airflow_lag_provider.hooks.elasticsearch_spool import configured_spool
from airflow_lag_provider.run import Run
from airflow_lag_provider.shared_work import PerLoop, SharedWork
from airflow_lag_provider.snapshot import TopicSnapshot
from airflow_lag_provider.spool_newest import Series, Waiting, newest_snapshots
from airflow_lag_provider.task_log import told
from airflow_lag_provider.watch import Watch

log = logging.getLogger(__name__)

# How long the question may take, seconds; a snapshot waits for it only when memory is cold.
_PATIENCE_SECONDS = 6.0
# Between two scheduled runs of a topic. Where more time went by, another process may have had it.
_CADENCE = timedelta(minutes=1)
_FORGOTTEN_AFTER = timedelta(hours=1)
# How long it is believed what waits in the spool, seconds: what was sent from there meanwhile can't
# be searched for at once.
_SPOOL_SECONDS = 30.0

Known = Mapping[str, Shape | None]
"""By topic what is known after its last snapshot; ``None``: there was none for a week."""

_Key = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What is known of a topic.

    :param due: the latest scheduled instant that it takes into account.
    """

    due: datetime
    shape: Shape | None


_memory: dict[_Key, _Remembered] = {}
_looks: PerLoop[SharedWork[Mapping[Series, Waiting]]] = PerLoop(
    partial(SharedWork, keep=_SPOOL_SECONDS)
)


async def known_shapes(watch: Watch, run: Run, *, before: datetime) -> Known:
    """Return what earlier snapshots tell of the task's topics.

    :param before: when the describe began that is compared with it.
    :return: without the topics of which nothing can be said.
    """
    known: dict[str, Shape | None] = {}
    for topic in watch.topics:
        one = _memory.get(_key(watch, topic))
        if one and _is_of_the_run_before(one, run, before):
            known[topic] = one.shape
    asked = [topic for topic in watch.topics if topic not in known]
    return {**known, **await _asked(watch, run, asked, before)} if asked else known


def remember(
    watch: Watch,
    run: Run,
    *,
    known: Known,
    stored: Iterable[TopicSnapshot],
    absent: Sequence[str],
) -> None:
    """Keep what the task's run has to say for those to come; of scheduled runs alone.

    :param known: what :func:`known_shapes` returned.
    :param stored: the snapshots whose documents will be in Elasticsearch.
    :param absent: the topics that the group's description had no row of.
    """
    if run.run_type != "scheduled":
        return
    for snapshot in stored:
        if snapshot.topic in known:
            shape = shape_after(snapshot, known[snapshot.topic])
            _keep(_key(watch, snapshot.topic), _Remembered(run.scheduled_at, shape))
    for topic in absent:
        if topic in known:
            _keep(_key(watch, topic), _Remembered(run.scheduled_at, known[topic]))
    _forget(run.scheduled_at - _FORGOTTEN_AFTER)


def _key(watch: Watch, topic: str) -> _Key:
    return watch.elasticsearch_conn_id, watch.index, watch.mirror, watch.group, topic


def _is_of_the_run_before(one: _Remembered, run: Run, before: datetime) -> bool:
    if run.scheduled_at - one.due > _CADENCE:
        return False
    # Of two runs that overlap, the later snapshot says nothing of what was before the earlier one.
    return one.shape is None or one.shape.at <= before


async def _asked(watch: Watch, run: Run, topics: Sequence[str], before: datetime) -> Known:
    """Return what was stored before, or waits; with a line in the log where it can't be said."""
    known: dict[str, Shape | None] = {}
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            waiting = await _waiting(watch)
            mine = {topic: waiting.get((watch.mirror, watch.group, topic)) for topic in topics}
            for topic, one in mine.items():
                if one and _is_the_newest(one, run, before):
                    known[topic] = one.shape
            others = [topic for topic in topics if topic not in known]
            found = await _stored(watch, others, before) if others else {}
        for topic, shape in found.items():
            known[topic] = _newest(shape, mine[topic], before)
    except Exception as error:
        await told(
            log.warning,
            "Earlier snapshots can't be read, so of topics (%d) it isn't known whether partitions "
            "are missing or changed: %s",
            len(topics) - len(known),
            str(error) or type(error).__name__,
        )
    return known


def _is_the_newest(one: Waiting, run: Run, before: datetime) -> bool:
    """Return whether nothing newer can be in Elasticsearch: it is that of the run before."""
    return run.scheduled_at - one.due == _CADENCE and one.shape.at < before


async def _stored(watch: Watch, topics: Sequence[str], before: datetime) -> Known:
    """Return what Elasticsearch has of each topic.

    :raises StoreError: it can't be asked, or not all of it answered.
    """
    questions = [
        Question(mirror=watch.mirror, group=watch.group, topic=topic, before=before)
        for topic in topics
    ]
    found = await latest(
        *questions, elasticsearch_conn_id=watch.elasticsearch_conn_id, index=watch.index
    )
    shapes = (None if one is None else Shape.of_document(one) for one in found)
    return dict(zip(topics, shapes, strict=True))


async def _waiting(watch: Watch) -> Mapping[Series, Waiting]:
    """Return what the documents tell that wait for the task's index; read once for many tasks.

    :raises StoreError: the spool can't be read.
    """
    spool = configured_spool()
    if spool is None:
        return {}
    key = (spool, watch.elasticsearch_conn_id, watch.index)
    look = partial(newest_snapshots, spool, conn_id=key[1], index=key[2])
    return await _looks.get().result(
        key, lane=key, patience=_PATIENCE_SECONDS, work=lambda: asyncio.to_thread(look)
    )


def _newest(stored: Shape | None, waiting: Waiting | None, before: datetime) -> Shape | None:
    """Return the newer one of two shapes of a topic."""
    if waiting is None or not before - HORIZON <= waiting.shape.at < before:
        return stored
    return waiting.shape if stored is None or stored.at < waiting.shape.at else stored


def _keep(key: _Key, new: _Remembered) -> None:
    """Keep the newest shape, at the end of the memory: its order is that of age."""
    old = _memory.pop(key, None)
    if old and old.shape and (new.shape is None or new.shape.at < old.shape.at):
        new = old
    if old and old.due > new.due:
        new = _Remembered(old.due, new.shape)
    _memory[key] = new


def _forget(since: datetime) -> None:
    """Forget the topics that nobody has watched since then."""
    for key in list(islice(_memory, 2)):
        if _memory[key].due < since:
            del _memory[key]
