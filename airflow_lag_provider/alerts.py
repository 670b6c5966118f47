"""What Airflow calls when a run's document is late: SLA (2.11) and deadline (3.1 and newer)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_lag_provider import callbacks
from airflow_lag_provider.late import Late, late_topics, scheduled_at
from airflow_lag_provider.remarks import named
from airflow_lag_provider.task_log import told

log = logging.getLogger(__name__)

# After a pause Airflow 2.11 reports every minute that was missed, more than a thousand at once.
_MOST_NAMED = 5


def log_sla_miss(
    dag: Any, task_list: str, blocking_task_list: str, slas: Sequence[Any], blocking_tis: Any
) -> None:
    """Log one line for the SLA misses that Airflow 2.11 reports together."""
    missed = sorted(slas, key=lambda miss: miss.execution_date)
    # Airflow names the minute after the one that was missed.
    tasks = [f"{miss.task_id} (reported for {miss.execution_date:%F %R})" for miss in missed]
    more = f" and {len(tasks) - _MOST_NAMED} earlier" if len(tasks) > _MOST_NAMED else ""
    log.warning(
        "SLA missed in DAG %s: no snapshot in time for %s%s.",
        dag.dag_id,
        ", ".join(tasks[-_MOST_NAMED:]),
        more,
    )


async def deadline_missed(
    *,
    context: Mapping[str, Any],
    mirror: str,
    topics: Sequence[str],
    sla: float,
    elasticsearch_conn_id: str,
    index: str,
    callback: str | None,
) -> None:
    """Tell of the topics of a scheduled run that have no snapshot at its deadline.

    Airflow awaits it in the triggerer when a run was not closed, or failed, until its deadline.
    When all topics have their snapshots by now, nobody is told.

    :param context: Airflow's context of a deadline.
    :param topics: the topics of the DAG with this `sla`.
    :param sla: seconds after the scheduled instant.
    :param index: index, which may hold ``%Y``, ``%m``, ``%d`` and ``%H``.
    :param callback: import path of the user's function or notifier, called instead of a line in
        the log.
    """
    run = context["dag_run"]
    where = f"run {run['dag_run_id']} of DAG {run['dag_id']}"
    if str(run["run_type"]) != "scheduled":
        await told(
            log.info, "A deadline holds for scheduled runs; the %s is %s.", where, run["run_type"]
        )
        return
    late = await late_topics(
        run, mirror=mirror, topics=topics, elasticsearch_conn_id=elasticsearch_conn_id, index=index
    )
    if not late.topics:
        await told(
            log.info,
            "The %s missed its deadline of %g s, but has a snapshot of %s.",
            where,
            sla,
            named(topics),
        )
        return
    line = _sentence(late, run=run, mirror=mirror, sla=sla)
    if callback is None:
        await told(log.warning, "%s", line)
        return
    given = {
        "context": dict(context),
        "mirror": mirror,
        "topics": list(late.topics),
        "sla": sla,
        "failed": dict(late.failed),
        "unchecked": late.unchecked,
    }
    try:
        await callbacks.call(callback, given)
    except Exception:
        await told(log.warning, "%s %s, which should have been told, failed.", line, callback)
        raise


def _sentence(late: Late, *, run: Mapping[str, Any], mirror: str, sla: float) -> str:
    failed = late.failed
    late_ones = named([f"{one} ({failed[one]})" if one in failed else one for one in late.topics])
    doubt = "" if late.unchecked is None else "perhaps "
    reason = "" if late.unchecked is None else f" Not known, because {late.unchecked}"
    return (
        f"SLA missed in DAG {run['dag_id']}: {doubt}no snapshot in time for {late_ones}; {sla:g} s "
        f"after {scheduled_at(run)} the run {run['dag_run_id']} is {run['state']}; mirror "
        f"{mirror}.{reason}"
    )
