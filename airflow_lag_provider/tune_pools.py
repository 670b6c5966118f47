"""Airflow pools that keep the MirrorMaker hosts from bursts of tasks on workers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_lag_provider.tune_load import Load, PoolLoad

# How long a task on a worker keeps its slot, seconds: Airflow's own part and the describe.
WORKER_SECONDS = 5
# Within so many seconds of the minute the last task on a worker shall end.
WORKERS_DONE_SECONDS = 30
# sshd refuses connections at random from the tenth that is not yet logged in (MaxStartups).
HOST_SLOTS = 10


@dataclass(frozen=True, slots=True)
class Pool:
    """An Airflow pool that keeps a MirrorMaker host from bursts of tasks on workers.

    :param slots: tasks that may run at once.
    :param tasks: tasks a minute.
    :param unnamed: mirrors that need ``pool: <name>`` in the configuration before it limits them.
    :param enough: whether the slots end the tasks of a minute within the minute.
    :param reason: why so many slots.
    """

    name: str
    slots: int
    tasks: int
    unnamed: tuple[str, ...]
    enough: bool
    reason: str


def pools_of(load: Load) -> tuple[Pool, ...]:
    """Return the pools that the tasks on workers need, in the order of the configuration."""
    return tuple(_pools(load))


def _pools(load: Load) -> Iterator[Pool]:
    for pool in load.pools:
        slots = min(_wanted(pool.tasks), _share(pool, load))
        enough = pool.tasks * WORKER_SECONDS <= slots * 60
        reason = (
            f"{counted(pool.tasks, 'task', 'tasks')} a minute, each an SSH connection and a JVM on "
            f"the MirrorMaker host; sshd takes {HOST_SLOTS} logins at a time."
        )
        if not enough:
            reason += (
                " So many slots don't end them within the minute: put the mirror into layout "
                "group, or leave its tasks to the triggerer where Airflow can (2.11, 3.3)."
            )
        yield Pool(pool.name, slots, pool.tasks, pool.unnamed, enough, reason)


def _wanted(tasks: int) -> int:
    """Return the slots that end so many tasks in time."""
    return math.ceil(tasks * WORKER_SECONDS / WORKERS_DONE_SECONDS)


def _share(pool: PoolLoad, load: Load) -> int:
    """Return a pool's share of the connections that its hosts take; pools may share a host."""
    sharing = max(
        sum(ssh_conn_id in other.ssh_conn_ids for other in load.pools)
        for ssh_conn_id in pool.ssh_conn_ids
    )
    return max(1, HOST_SLOTS // sharing)


def counted(number: int, one: str, many: str) -> str:
    """Return a number with the words for one or for many."""
    return f"{number:,} {one if number == 1 else many}"
