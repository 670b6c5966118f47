"""Leaves a document for a run that Airflow ended without our code.

A worker that was lost, a trigger that timed out, an executor that failed: Airflow then calls the
task's ``on_failure_callback``, in a process of the DAG processor or on a worker. That is not all.
On Airflow 3 nobody calls it where the task's process alone was killed, by the kernel for want of
memory for instance, or where somebody marked the task failed; but then the run fails, and Airflow
calls the DAG's callback. It costs a request for each run that fails, whatever the reason, so the
factory gives it to the DAGs whose tasks take a worker, where such things happen. On Airflow 3.3 a
task that a person ends while it is in the triggerer is told so there.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_lag_provider.documents import Failed, ended_document
from airflow_lag_provider.doors import run_of
from airflow_lag_provider.errors import EndedByAirflow, InvalidRequest, LagError, StoreError
from airflow_lag_provider.run import Run
from airflow_lag_provider.watch import Watch

log = logging.getLogger(__name__)

# For one callback: what Elasticsearch has not taken by then waits in the spool.
_LIMIT_SECONDS = 20.0
# For all of one process: the DAG processor calls for hundreds of tasks one after the other, and is
# killed after 50 s (`dag_file_processor_timeout`) with all that it has not yet done.
_TOGETHER_SECONDS = 30.0
_NOT_SAID = "its process was lost, or its executor could not run it"

_spent = 0.0


class RecordedFailure(AirflowException):
    """A failure that the triggerer met, whose document is there."""


def ended_by_airflow(context: Any) -> None:
    """Leave a document for each topic of a task that Airflow ended (its `on_failure_callback`).

    It never replaces what our own code wrote of the run, and never raises.
    """
    # Airflow 2.11 keeps the source of this function with every task, so it is short.
    _safely(_record_task, context)


def run_ended_by_airflow(context: Any) -> None:
    """Do the same for all tasks of a DAG, when a run of it failed (its `on_failure_callback`)."""
    _safely(_record_run, context)


async def leave_documents(
    watch: Watch,
    run: Run,
    *,
    reason: str,
    task_id: str | None = None,
    patience: float | None = None,
) -> None:
    """Write the failure ``EndedByAirflow`` of each topic that has no document of this run.

    :param reason: what is known of why Airflow ended the task.
    :param task_id: another task of the run, of which nobody says which try it was.
    :param patience: see :func:`.elasticsearch_spool.store`.
    :raises StoreError: one of them could not be written, and doesn't wait in the spool.
    """
    # Not with a DAG file.
    from airflow_lag_provider.hooks.elasticsearch_spool import store

    error = EndedByAirflow(f"Airflow ended the task: {reason}.")
    documents = [
        ended_document(
            Failed(topic, error, datetime.now(UTC)), watch=watch, run=run, task_id=task_id
        )
        for topic in watch.topics
    ]
    fates = await store(
        *documents,
        elasticsearch_conn_id=watch.elasticsearch_conn_id,
        index=run.index_name(watch.index),
        patience=patience,
    )
    if refused := next((one for one in fates if isinstance(one, StoreError)), None):
        raise refused


def _safely(record: Callable[[Mapping[str, Any]], None], context: Mapping[str, Any]) -> None:
    global _spent
    began = time.monotonic()
    try:
        record(context)
    except (LagError, TimeoutError) as error:
        log.warning("No document could be left of a run that Airflow ended: %s", error)
    except Exception:
        log.exception("No document could be left of a run that Airflow ended.")
    _spent += time.monotonic() - began


def _record_task(context: Mapping[str, Any]) -> None:
    reason = _reason(context)
    if reason is not None:
        _leave([context["task"]], context, reason=reason)


def _record_run(context: Mapping[str, Any]) -> None:
    if context.get("dag_run") is None:
        log.warning("Airflow tells nothing of run %s but its id.", context.get("run_id"))
        return
    tasks = [task for task in context["dag"].tasks if hasattr(task, "watch")]
    others = "somebody marked it, or its own document could not be written"
    _leave(tasks, context, reason=f"{_NOT_SAID}, or {others} ({context.get('reason')})")


def _leave(tasks: Sequence[Any], context: Mapping[str, Any], *, reason: str) -> None:
    """Leave the documents of a run's tasks that have none yet, and say so in the log."""
    run = run_of(context["dag_run"], context["ti"], interval_end=context.get("data_interval_end"))
    where = f"the run {run.run_id} of DAG {run.dag_id}"
    limit = min(_LIMIT_SECONDS, _TOGETHER_SECONDS - _spent)
    if limit <= 0:
        log.warning("This process has no more time: no document is left of %s.", where)
        return
    watches = {}
    for task in tasks:
        try:
            watches[task.task_id] = _watch(task, context)
        except Exception:
            log.exception("No document could be left of task %s in %s.", task.task_id, where)

    if not watches:
        return
    asyncio.run(_leave_all(watches, run, reason=reason, limit=limit))
    topics = ", ".join(topic for watch in watches.values() for topic in watch.topics)
    log.info("Airflow ended %s: %s. Those without a document got one: %s.", where, reason, topics)


async def _leave_all(watches: Mapping[str, Watch], run: Run, *, reason: str, limit: float) -> None:
    """Leave the documents of some tasks, and send what waits in the spool, in so many seconds."""
    # Not with a DAG file.
    from airflow_lag_provider.hooks.elasticsearch_spool import settle

    end = asyncio.get_running_loop().time() + limit
    results = await asyncio.gather(
        *(
            leave_documents(watch, run, reason=reason, task_id=task_id, patience=limit)
            for task_id, watch in watches.items()
        ),
        # One task's error must not end the others with the event loop.
        return_exceptions=True,
    )
    # What waited before must not make these documents look lost.
    with suppress(TimeoutError):
        async with asyncio.timeout_at(end):
            await settle()
    for one in results:
        if one is not None:
            raise one


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


def _watch(task: Any, context: Mapping[str, Any]) -> Watch:
    """Return what a task watches.

    :raises InvalidRequest: its templates, which nobody has rendered in the DAG processor, can't be
        rendered there.
    """
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
