"""What the two doors to ``observe``, operator and trigger, have in common.

Both read the run from Airflow and end with the same summary, so that a worker and the triggerer
can't disagree.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_lag_provider.errors import LagError
from airflow_lag_provider.run import Run
from airflow_lag_provider.watch import Watch

if TYPE_CHECKING:
    from airflow_lag_provider.observation import Observation, StoredSnapshot


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


def command_of(watch: Watch, *, short: bool = False) -> str:
    """Return the describe command to show, or a sentence where there is none. It never raises.

    :param short: without its lines of shell for the archive.
    """
    try:
        # What a template or a variable gave may be no text at all.
        watch.check()
        return watch.short_command if short else watch.command
    except Exception:
        return "none was run, since an argument of the task can't be used"


def sentences(seen: Observation) -> str:
    """Return a line about each stored snapshot, for the task's log."""
    return "\n".join(map(_sentence, seen.stored))


def _sentence(stored: StoredSnapshot) -> str:
    snapshot = stored.snapshot
    lag = "not known" if snapshot.lag_total is None else f"{snapshot.lag_total} messages"
    worst = (
        ""
        if snapshot.lag_max is None
        else f", worst partition {snapshot.lag_max_partition} with {snapshot.lag_max}"
    )
    where = f"{stored.index}/{stored.document_id}"
    return (
        f"Topic {snapshot.topic}: lag {lag}{worst}; {len(snapshot.partitions)} partitions, "
        f"group {snapshot.group_state}; document {where}"
        f"{' waits in the spool' if stored.waits else ''}."
    )


def failure(error: LagError) -> str:
    """Return what went wrong, with everything that is known about it."""
    return " ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])


def summary(watch: Watch, seen: Observation) -> dict[str, Any] | None:
    """Return what a task hands on (XCom): figures and ids, never the output.

    :return: ``None`` for the task of one topic without a snapshot.
    """
    if watch.together:
        waiting = sum(one.waits for one in seen.stored)
        return {
            "command": command_of(watch, short=True),
            "stored": len(seen.stored),
            "failed": list(seen.failed),
            **({"waiting": waiting} if waiting else {}),
        }
    if seen.error or not seen.stored:
        return None
    (one,) = seen.stored
    return {
        "topic": one.snapshot.topic,
        "command": command_of(watch, short=True),
        "lag": {"total": one.snapshot.lag_total, "max": one.snapshot.lag_max},
        "index": one.index,
        "document_id": one.document_id,
        **({"waiting": 1} if one.waits else {}),
    }
