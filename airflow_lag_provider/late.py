"""Which topics of a run have no snapshot when its deadline has passed. Asynchronous."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.sdk import redact

from airflow_lag_provider.errors import LagError, StoreError
from airflow_lag_provider.run import document_id, index_name
from airflow_lag_provider.task_log import told_unexpected

log = logging.getLogger(__name__)

_WAIT = "documents wait in the spool of this host, and theirs may be among them."


@dataclass(frozen=True, slots=True)
class Late:
    """The topics of a run that its missed deadline is about.

    :param topics: those without the document of a snapshot.
    :param failed: those of them that have a document of a failure, each with its ``error.type``.
    :param unchecked: why it isn't known of some topics, or of all, whether they have a document,
        so that they are named too; ``None`` when it is known of all.
    """

    topics: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    unchecked: str | None = None


def scheduled_at(dag_run: Mapping[str, Any]) -> datetime:
    """Return the instant a run was due.

    :param dag_run: the DAG run as Airflow's REST API and the context of a deadline have it.
    """
    return datetime.fromisoformat(dag_run["data_interval_end"] or dag_run["run_after"])


async def late_topics(
    dag_run: Mapping[str, Any],
    *,
    mirror: str,
    topics: Sequence[str],
    elasticsearch_conn_id: str,
    index: str,
) -> Late:
    """Return the topics of a run that have no snapshot now, in Elasticsearch or in our spool.

    It raises nothing: where Elasticsearch can't be asked, all topics may be late.

    :param dag_run: see :func:`scheduled_at`.
    :param index: index, which may hold ``%Y``, ``%m``, ``%d`` and ``%H``.
    """
    asked: Sequence[str] = topics
    try:
        # The first import of the client takes a second.
        await asyncio.to_thread(import_module, "airflow_lag_provider.hooks.elasticsearch_spool")
        from airflow_lag_provider.hooks.elasticsearch_batch import outcomes
        from airflow_lag_provider.hooks.elasticsearch_spool import waiting_snapshots

        due = scheduled_at(dag_run)
        # Without a start there is no document yet, whatever its id would be.
        started_at = datetime.fromisoformat(dag_run["start_date"]) if dag_run["start_date"] else due
        run_id = dag_run["dag_run_id"]
        ids = {
            topic: document_id(mirror=mirror, topic=topic, run_id=run_id, started_at=started_at)
            for topic in topics
        }
        # These were taken in time; only their documents are not where they belong.
        safe = waiting_snapshots()
        asked = [topic for topic in topics if ids[topic] not in safe]
        if not asked:
            return Late(())
        found = await outcomes(
            *(ids[topic] for topic in asked),
            elasticsearch_conn_id=elasticsearch_conn_id,
            index=index_name(index, scheduled_at=due),
        )
    except Exception as error:
        # An alarm that may be false is better than none.
        if not isinstance(error, LagError):
            await told_unexpected(log, error)
        return Late(tuple(asked), unchecked=_words(error))
    return await _doubted(
        _late(dict(zip(asked, found, strict=True))), conn_id=elasticsearch_conn_id
    )


async def _doubted(late: Late, *, conn_id: str) -> Late:
    """Return the late ones as unchecked where documents wait that other processes kept."""
    from airflow_lag_provider.hooks.elasticsearch_spool import configured_spool

    spool = configured_spool()
    if spool is None or not late.topics or late.unchecked:
        return late
    try:
        waiting = await asyncio.to_thread(partial(spool.files, conn_id=conn_id, kind="waiting"))
    except StoreError as error:
        return replace(late, unchecked=_words(error))
    return replace(late, unchecked=_WAIT) if waiting else late


def _late(found: Mapping[str, Mapping[str, Any] | StoreError | None]) -> Late:
    """Return the late ones of some topics.

    :param found: of each topic's document the fields ``event.outcome`` and ``error.type``, or why
        they can't be read.
    """
    late: list[str] = []
    failed: dict[str, str] = {}
    unchecked: str | None = None
    for topic, document in found.items():
        if isinstance(document, StoreError):
            unchecked = unchecked or _words(document)
        elif document is not None:
            if document["event"]["outcome"] == "success":
                continue
            failed[topic] = document["error"]["type"]
        late.append(topic)
    return Late(tuple(late), failed, unchecked)


def _words(error: Exception) -> str:
    return str(redact(f"{type(error).__name__}: {error}"))
