"""Leaves a document for a run that Airflow ended without our code.

A worker that was lost, a trigger that timed out, an executor that failed: Airflow then calls the
task's ``on_failure_callback``, in a process of the DAG processor or on a worker. On Airflow 3.3 a
task that a person ends while it is in the triggerer is told so there.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, redact

from airflow_lag_provider.doors import run_of
from airflow_lag_provider.errors import EndedByAirflow, InvalidRequest, LagError, StoreError
from airflow_lag_provider.run import ENDED_VERSION, Run
from airflow_lag_provider.snapshot import TopicFailure
from airflow_lag_provider.watch import Watch

log = logging.getLogger(__name__)

# Reading the connection and writing (15 s), for one task.
_LIMIT_SECONDS = 20.0
# The DAG processor calls for hundreds of tasks one after the other, and is killed after 50 s
# (`dag_file_processor_timeout`): where Elasticsearch was away once, it isn't asked again so soon.
_AWAY_SECONDS = 60.0
_NOT_SAID = "its process was lost, or its executor could not run it"

_away_until = 0.0


class RecordedFailure(AirflowException):
    """A failure that the triggerer met, whose document is there."""


def ended_by_airflow(context: Any) -> None:
    """Leave a document for each topic of a task that Airflow ended (`on_failure_callback`).

    It never replaces what our own code wrote of the run, and never raises.
    """
    # Airflow 2.11 keeps the source of this function with every task, so it is short.
    _record(context)


async def leave_documents(watch: Watch, run: Run, *, reason: str) -> None:
    """Write the failure ``EndedByAirflow`` of each topic that has no document of this run.

    :param reason: what is known of why Airflow ended the task.
    :raises StoreError: one of them could not be written.
    """
    # Not with a DAG file.
    from airflow_lag_provider.hooks.elasticsearch import Document
    from airflow_lag_provider.hooks.elasticsearch_batch import write

    error = EndedByAirflow(f"Airflow ended try {run.try_number} of the task: {reason}.")
    documents = []
    for topic in watch.topics:
        failure = TopicFailure(
            mirror=watch.mirror,
            group=watch.group,
            topic=topic,
            failed_at=datetime.now(UTC),
            error_type=type(error).__name__,
            error_message=str(redact(str(error))),
        )
        # When the work began, and whether it did, nobody knows.
        event = {"outcome": "failure", "duration": None, "delay": None}
        source = {**failure.to_document(), "event": event, "airflow": run.to_document()}
        identity = run.document_id(mirror=watch.mirror, topic=topic)
        documents.append(Document(id=identity, version=ENDED_VERSION, source=source))
    fates = await write(
        *documents,
        elasticsearch_conn_id=watch.elasticsearch_conn_id,
        index=run.index_name(watch.index),
    )
    if refused := next(filter(None, fates), None):
        raise refused


def _record(context: Mapping[str, Any]) -> None:
    global _away_until
    try:
        reason = _reason(context)
        if reason is None:
            return
        run = run_of(
            context["dag_run"], context["ti"], interval_end=context.get("data_interval_end")
        )
        watch = _watch(context)
        where = f"the run {run.run_id} of task {run.task_id} in DAG {run.dag_id}"
        if time.monotonic() < _away_until:
            log.warning("Elasticsearch was away a moment ago: no document is left of %s.", where)
            return
        asyncio.run(_limited(leave_documents(watch, run, reason=reason)))
        log.info(
            "Airflow ended %s: %s. Of its topics (%s) those without a document got one.",
            where,
            reason,
            ", ".join(watch.topics),
        )
    except (StoreError, TimeoutError) as error:
        if isinstance(error, TimeoutError) or error.retriable:
            _away_until = time.monotonic() + _AWAY_SECONDS
        log.warning("No document could be left of a run that Airflow ended: %s", error)
    except Exception:
        log.exception("No document could be left of a run that Airflow ended.")


async def _limited(work: Any) -> None:
    async with asyncio.timeout(_LIMIT_SECONDS):
        await work


def _reason(context: Mapping[str, Any]) -> str | None:
    """Return why Airflow ended the task; ``None`` when our own code did, which leaves documents."""
    if "exception" in context:
        # On a worker, and everywhere on 2.11; there without one for what our trigger ended.
        error = context["exception"]
        if error is None or _is_ours(error):
            return None
        return error if isinstance(error, str) else f"{type(error).__name__}: {error}".rstrip(". ")
    # In the DAG processor of Airflow 3. Of a task that a trigger ended it tells nothing of the run.
    return _NOT_SAID if context.get("dag_run") is not None else None


def _is_ours(error: Any) -> bool:
    return isinstance(error, LagError | RecordedFailure) or isinstance(
        getattr(error, "__cause__", None), LagError
    )


def _watch(context: Mapping[str, Any]) -> Watch:
    """Return what the task watches.

    :raises InvalidRequest: its templates, which nobody has rendered in the DAG processor, can't be
        rendered there.
    """
    task = context["task"]
    watch: Watch = task.watch()
    try:
        watch.check()
    except InvalidRequest:
        # Not in place: the next callback of this process has the same task and another run.
        rendered = copy.copy(task)
        rendered.render_template_fields(context)
        watch = rendered.watch()
        watch.check()
    return watch
