"""What happens when a run's document is late: SLA (Airflow 2.11) and deadline (3.1 and newer).

Both come from the `sla` and `sla_miss_callback` of the configuration. Airflow calls a function of
the user in its own way, which differs between the versions:

- 2.11: five positional arguments ``(dag, task_list, blocking_task_list, slas, blocking_tis)``.
- 3.1 and newer: the keyword ``context`` (the DAG run and the deadline), and of ``mirror``,
  ``topics`` and ``sla`` (seconds) those that the function names.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

log = logging.getLogger(__name__)

# After a pause Airflow 2.11 reports every minute that was missed, more than a thousand at once.
_MOST_NAMED = 5
_KEYWORDS = frozenset({"context", "mirror", "topics", "sla"})


def log_sla_miss(
    dag: Any, task_list: str, blocking_task_list: str, slas: Sequence[Any], blocking_tis: Any
) -> None:
    """Log one line for the SLA misses that Airflow 2.11 reports together."""
    missed = sorted(slas, key=lambda miss: miss.execution_date)
    # Airflow names the minute after the one that was missed.
    named = [f"{miss.task_id} (reported for {miss.execution_date:%F %R})" for miss in missed]
    more = f" and {len(named) - _MOST_NAMED} earlier" if len(named) > _MOST_NAMED else ""
    log.warning(
        "SLA missed in DAG %s: no snapshot in time for %s%s.",
        dag.dag_id,
        ", ".join(named[-_MOST_NAMED:]),
        more,
    )


async def log_deadline_miss(
    *, context: Mapping[str, Any], mirror: str, topics: Sequence[str], sla: float
) -> None:
    """Log one line for a deadline that a scheduled run missed (Airflow 3.1 and newer)."""
    run = context["dag_run"]
    if str(run.get("run_type")) != "scheduled":
        # A run by hand or a backfill is late by nature: its logical date lies in the past.
        return
    log.warning(
        "SLA missed in DAG %s: %g s after %s the run %s is %s; mirror %s, topics %s.",
        run["dag_id"],
        sla,
        run["logical_date"],
        run["dag_run_id"],
        run["state"],
        mirror,
        ", ".join(topics),
    )


def imported(path: str) -> Callable[..., Any]:
    """Return the callable at an import path.

    :raises ValueError: there is none, with what is wrong.
    """
    module_name, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module_name), name)
    except Exception as error:
        raise ValueError(f"{path} can't be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"{path} is not a function")
    return found  # type: ignore[no-any-return]


def is_async(callback: Callable[..., Any]) -> bool:
    """Return whether Airflow has to await the callback (a coroutine function or notifier)."""
    return inspect.iscoroutinefunction(callback) or hasattr(callback, "__await__")


def airflow2_callback(path: str | None) -> Callable[..., Any]:
    """Return the `sla_miss_callback` of a DAG for Airflow 2.11.

    :param path: import path of a function or notifier class; ``None`` for our own line.
    :raises ValueError: it can't be imported or can't take Airflow's five arguments.
    """
    if path is None:
        return log_sla_miss
    callback = imported(path)
    if isinstance(callback, type):
        return callback()  # type: ignore[no-any-return]
    try:
        inspect.signature(callback).bind(*range(5))
    except TypeError as error:
        raise ValueError(
            f"{path} must take Airflow's (dag, task_list, blocking_task_list, slas, "
            f"blocking_tis): {error}"
        ) from error
    if inspect.iscoroutinefunction(callback):
        return lambda *arguments: asyncio.run(callback(*arguments))
    return callback


def airflow3_keywords(path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the given keywords that a deadline's callback takes.

    :param given: values for ``mirror``, ``topics`` and ``sla``; Airflow adds ``context``.
    :raises ValueError: it can't be imported, or needs an argument that nobody gives.
    """
    callback = imported(path)
    if isinstance(callback, type):
        return {}
    parameters = inspect.signature(callback).parameters.values()
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters)
    if not takes_all and "context" not in {one.name for one in parameters}:
        raise ValueError(f"{path} must take the keyword context")
    needed = {
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    }
    positional = {one.name for one in parameters if one.kind is one.POSITIONAL_ONLY}
    if needed - _KEYWORDS or positional & needed:
        unknown = ", ".join(sorted((needed - _KEYWORDS) | (positional & needed)))
        raise ValueError(
            f"{path} is called with the keywords context, mirror, topics and sla, "
            f"but also needs {unknown}"
        )
    if takes_all:
        return dict(given)
    names = {one.name for one in parameters}
    return {name: value for name, value in given.items() if name in names}
