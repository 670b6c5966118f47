"""What the two doors to ``observe``, operator and trigger, have in common.

Both hold the same fields, read the run from Airflow and end with the same summary, so that a
worker and the triggerer can't disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from airflow_lag_provider.config_cache import configured_topics
from airflow_lag_provider.errors import LagError
from airflow_lag_provider.run import Run
from airflow_lag_provider.watch import Watch

if TYPE_CHECKING:
    from airflow_lag_provider.observe import Observation, StoredSnapshot


class Door(Protocol):
    """The fields that say what to watch; see ``SSHLagOperator``.

    :param timeout: seconds, or the operator's ``timedelta``.
    """

    topic: str | None
    topics: Sequence[str] | str | None
    group: str
    bootstrap_servers: str | Sequence[str]
    ssh_conn_id: str
    elasticsearch_conn_id: str
    index: str
    tool: str
    command_config: str | None
    mirror: str | None
    timeout: Any
    jvm_opts: str
    class_data_archive: str | None
    mirrors_file: str | None


def watch_of(door: Door) -> Watch:
    """Return what a door's fields, as they are now, ask for. May read the configuration file."""
    timeout = door.timeout
    mirror = door.group if door.mirror is None else door.mirror
    return Watch(
        mirror=mirror,
        topics=words([door.topic or ""] if door.topics is None else door.topics),
        group=door.group,
        bootstrap_servers=words(door.bootstrap_servers),
        ssh_conn_id=door.ssh_conn_id,
        elasticsearch_conn_id=door.elasticsearch_conn_id,
        index=door.index,
        timeout=timeout.total_seconds() if isinstance(timeout, timedelta) else timeout,
        tool=door.tool,
        command_config=door.command_config,
        jvm_opts=door.jvm_opts,
        class_data_archive=door.class_data_archive,
        configured_topics=configured_topics(door.mirrors_file, mirror),
    )


def words(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the parts of a list, or of a text with commas, as templates make it."""
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(str(part).strip() for part in parts)


def run_of(dag_run: Any, ti: Any, *, interval_end: datetime | None) -> Run:
    """Return the run that Airflow's objects describe, the same on Airflow 2 and 3.

    :param dag_run: Airflow's DAG run, of any of its classes.
    :param ti: the task instance.
    :param interval_end: the end of the run's data interval, ``None`` for a run without one.
    :raises ValueError: the run has no instant at which it was due.
    """
    # Airflow 3 has run_after for every run; before, the end of the interval is when it was due.
    scheduled_at = interval_end or getattr(dag_run, "run_after", None)
    started_at = dag_run.start_date or scheduled_at
    if scheduled_at is None or started_at is None:
        raise ValueError(f"The run {dag_run.run_id} has no instant it was due at.")
    return Run(
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=dag_run.run_id,
        run_type=str(getattr(dag_run.run_type, "value", dag_run.run_type)),
        try_number=ti.try_number,
        scheduled_at=scheduled_at,
        started_at=started_at,
    )


def sentence(stored: StoredSnapshot) -> str:
    """Return one line about a stored snapshot for the task's log."""
    snapshot = stored.snapshot
    lag = "not known" if snapshot.lag_total is None else f"{snapshot.lag_total} messages"
    worst = (
        ""
        if snapshot.lag_max is None
        else f", worst partition {snapshot.lag_max_partition} with {snapshot.lag_max}"
    )
    return (
        f"Topic {snapshot.topic}: lag {lag}{worst}; {len(snapshot.partitions)} partitions, "
        f"group {snapshot.group_state}; document {stored.index}/{stored.document_id}."
    )


def failure(error: LagError) -> str:
    """Return what went wrong, with everything that is known about it."""
    return " ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])


def summary(watch: Watch, seen: Observation) -> dict[str, Any] | None:
    """Return what a task hands on (XCom): figures and ids, never the output.

    :return: ``None`` for a single topic without a snapshot.
    """
    if len(watch.topics) > 1:
        return {
            "command": watch.short_command,
            "stored": len(seen.stored),
            "failed": list(seen.failed),
        }
    if seen.error or not seen.stored:
        return None
    (one,) = seen.stored
    return {
        "topic": one.snapshot.topic,
        "command": watch.short_command,
        "lag": {"total": one.snapshot.lag_total, "max": one.snapshot.lag_max},
        "index": one.index,
        "document_id": one.document_id,
    }
