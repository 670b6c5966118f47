"""What Airflow has to be set to for a load: each setting with its reason.

The figures behind the rules are from measurements on two cores and from Airflow's own code
(2.11 and 3.3); ``docs/scale.md`` tells them. Nothing here imports Airflow or asks its database:
what is set now comes through a function.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_lag_provider.tune_load import Load, Version
from airflow_lag_provider.tune_notes import notes
from airflow_lag_provider.tune_pools import WORKER_SECONDS, Pool, counted, pools_of
from airflow_lag_provider.tune_settings import Present, Setting, number, seconds

# How long a failed task keeps a worker on 2.11, where only a worker can retry it, seconds.
RETRY_SECONDS = 2
# DAGs that one loop of the scheduler makes runs of: what it makes waits for the loop's end.
LOOP_DAGS = 100
# How long the scheduler may sleep after a loop, seconds, where several loops make up a minute.
LOOP_SLEEP_SECONDS = 0.3
# What parsing and storing one DAG costs, seconds, and the part of a core it may take.
PARSE_SECONDS = 0.015
PARSE_SHARE = 0.05
# Tasks a minute that one triggerer ends with room to spare: 1,000 take a quarter of a core.
TRIGGERER_TASKS = 2000
# After so many seconds without a sign of life a worker counts as lost. Until then its tasks keep
# the slots of their pool, and nobody else gets in.
LOST_WORKER_SECONDS = 60
# Tasks a minute that are fine on SQLite, for trying things out.
SQLITE_TASKS = 10
DATABASE = "postgresql+psycopg2://USER:PASSWORD@HOST/DATABASE"


@dataclass(frozen=True, slots=True)
class Advice:
    """All that a load needs.

    :param load: what it was calculated from.
    :param settings: settings of the Airflow configuration, changed or not.
    :param triggerers: how many triggerers to run.
    :param pools: pools of the tasks on workers.
    :param notes: what else matters, a sentence or two each.
    """

    load: Load
    settings: tuple[Setting, ...]
    triggerers: int
    pools: tuple[Pool, ...]
    notes: tuple[str, ...]


def advise(
    load: Load, *, version: Version, present: Present, socket_buffer: int | None = None
) -> Advice:
    """Return what a load needs on a version of Airflow.

    :param version: Airflow's version, such as ``(3, 3)``.
    :param present: see :data:`Present`.
    :param socket_buffer: see :func:`tune_host.socket_buffer`.
    """
    pools = pools_of(load)
    slots = _slots(load, pools, version)
    settings = (
        *_scheduler(load, present),
        *_dag_processor(load, version, present),
        *_workers(load, pools, slots, present),
        *_lost_workers(load, version, present),
        *_executor(load, slots, present),
        *_triggerer(load, version, present),
        _database(load, present),
    )
    triggerers = math.ceil(load.triggerer_tasks / TRIGGERER_TASKS)
    besides = tuple(notes(load, version=version, socket_buffer=socket_buffer))
    return Advice(load, settings, triggerers, pools, besides)


def _scheduler(load: Load, present: Present) -> Iterator[Setting]:
    several = load.dags > LOOP_DAGS
    at_once = min(load.dags, LOOP_DAGS)
    due = counted(load.dags, "DAG is", "DAGs are")
    if several:
        rest = (
            f"{at_once} in one loop of the scheduler, because none of the runs that a loop makes "
            "begins before it ends."
        )
    else:
        rest = (
            "What one loop of the scheduler doesn't create waits for the next, about a second "
            "later."
        )
    yield number(
        "scheduler",
        "max_dagruns_to_create_per_loop",
        at_once,
        f"{due} due in the same second. {rest}",
        present,
    )
    yield number(
        "scheduler",
        "max_dagruns_per_loop_to_schedule",
        at_once,
        f"{counted(at_once, 'run starts', 'runs start')} at once, and what one loop of the "
        "scheduler doesn't look at waits for the next.",
        present,
    )
    if several and load.triggerer_tasks:
        yield _sleep(load, present)


def _sleep(load: Load, present: Present) -> Setting:
    value = present("scheduler", "scheduler_idle_sleep_time")
    loops = math.ceil(load.dags / LOOP_DAGS)
    return Setting(
        "scheduler",
        "scheduler_idle_sleep_time",
        str(LOOP_SLEEP_SECONDS),
        value,
        f"A minute's runs take {loops} loops, and the scheduler sleeps after each, because a task "
        "that it hands to the triggerer is no work in its eyes.",
        suffices=seconds(value) <= LOOP_SLEEP_SECONDS,
    )


def _dag_processor(load: Load, version: Version, present: Present) -> Iterator[Setting]:
    section = "dag_processor" if version >= (3, 0) else "scheduler"
    interval = max(30, 30 * math.ceil(load.dags * PARSE_SECONDS / PARSE_SHARE / 30))
    yield number(
        section,
        "min_file_process_interval",
        interval,
        f"To parse and store {counted(load.dags, 'DAG', 'DAGs')} takes about "
        f"{load.dags * PARSE_SECONDS:.2g} s of a core each time. A change of the configuration "
        "file is seen that much later at most.",
        present,
    )
    if version >= (3, 0) and load.triggerer_tasks:
        yield number(
            section,
            "max_callbacks_per_loop",
            load.triggerer_tasks,
            f"Airflow sends {counted(load.triggerer_tasks, 'callback', 'callbacks')} a minute to "
            "the DAG processor, one for each task that the triggerer ended, though nobody asked "
            "for any. It parses the whole file for each batch of them.",
            present,
        )


def _workers(
    load: Load, pools: tuple[Pool, ...], slots: int, present: Present
) -> Iterator[Setting]:
    if load.worker_tasks:
        reason = (
            f"{counted(load.worker_tasks, 'task takes', 'tasks take')} a worker each minute, for "
            f"about {WORKER_SECONDS} s; {slots} at once, as their pools let them."
        )
    elif slots:
        reason = (
            "No task takes a worker while all is well; on this version of Airflow one that fails "
            f"takes a worker for about {RETRY_SECONDS} s, so that it is retried."
        )
    else:
        reason = "No task takes a worker."
    # The other DAGs need some too, and Airflow 3 refuses 0.
    yield number("core", "parallelism", max(1, slots), reason, present, no_limit=0)
    by_name = {pool.name: pool.slots for pool in pools}
    at_once = [min(dag.tasks, sum(by_name[name] for name in dag.pools)) for dag in load.wide_dags]
    if at_once:
        yield number(
            "core",
            "max_active_tasks_per_dag",
            max(at_once),
            f"In layout mirror one DAG has all tasks of its mirror; {max(at_once)} at once, as "
            "their pools let them.",
            present,
        )


def _lost_workers(load: Load, version: Version, present: Present) -> Iterator[Setting]:
    if not load.worker_tasks:
        return
    key = (
        "task_instance_heartbeat_timeout"
        if version >= (3, 0)
        else "scheduler_zombie_task_threshold"
    )
    value = present("scheduler", key)
    yield Setting(
        "scheduler",
        key,
        LOST_WORKER_SECONDS,
        value,
        "The tasks of a worker that is killed keep the slots of their pool for so long (seconds), "
        "and then use up a retry or end without a snapshot.",
        0 < seconds(value) <= LOST_WORKER_SECONDS,
        at_most=True,
    )


def _executor(load: Load, slots: int, present: Present) -> Iterator[Setting]:
    executor = present("core", "executor") or ""
    if not slots:
        return
    if executor.rpartition(".")[2] == "SequentialExecutor":
        yield Setting(
            "core",
            "executor",
            "LocalExecutor",
            executor,
            "It runs one task at a time, and the scheduler stands still meanwhile. Others need "
            "another database than SQLite.",
            suffices=False,
        )
    if "CeleryExecutor" in executor:
        yield number(
            "celery",
            "worker_concurrency",
            slots,
            f"Slots of one worker; several workers need {slots} together.",
            present,
        )


def _triggerer(load: Load, version: Version, present: Present) -> Iterator[Setting]:
    if not load.triggerer_tasks:
        return
    waiting = counted(load.triggerer_tasks, "task a minute waits", "tasks a minute wait")
    yield number(
        "triggerer",
        "capacity" if version >= (3, 0) else "default_capacity",
        load.triggers_at_once,
        f"{waiting} in the triggerer, and while a host hangs those of the next minutes come on "
        "top. One triggerer alone should hold them all.",
        present,
    )
    if version >= (3, 2):
        yield number(
            "triggerer",
            "max_trigger_to_select_per_loop",
            load.triggerer_tasks,
            f"{waiting} in the triggerer, all from the same second on. What one loop of it doesn't "
            "take waits for the next, a second or more later.",
            present,
        )


def _database(load: Load, present: Present) -> Setting:
    # Nothing of the address but its kind may get any further.
    kind = (present("database", "sql_alchemy_conn") or "").partition(":")[0] or None
    small = load.tasks <= SQLITE_TASKS
    sqlite = kind is not None and kind.startswith("sqlite")
    if sqlite:
        reason = "SQLite lets one process write at a time, and schedulers can't share it" + (
            "; for trying out it will do." if small else "."
        )
    else:
        reason = "SQLite would let one process write at a time."
    return Setting(
        "database", "sql_alchemy_conn", DATABASE, kind, reason, small or not sqlite, example=True
    )


def _slots(load: Load, pools: tuple[Pool, ...], version: Version) -> int:
    """Return how many tasks take a worker at once."""
    slots = sum(pool.slots for pool in pools)
    if version < (3, 0):
        slots += math.ceil(load.failing_tries * RETRY_SECONDS / 60)
    return slots
