"""What the DAGs of a configuration ask of Airflow and of the MirrorMaker hosts each minute."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from airflow_lag_provider.command import describe_command
from airflow_lag_provider.config import Configuration
from airflow_lag_provider.config_keys import Mirror, TopicSettings
from airflow_lag_provider.run import EXECUTION_MARGIN, MAX_ACTIVE_RUNS

Version = tuple[int, int]
"""Airflow's version, such as ``(3, 3)``."""

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """The tasks of one Airflow pool, or those that ought to share one.

    :param name: the pool's name: what the configuration says, or a proposal, ``lag_<mirror>``.
    :param tasks: tasks a minute, all on workers.
    :param ssh_conn_ids: SSH connections that they open.
    :param unnamed: mirrors whose tasks would be in this pool if the configuration said so.
    """

    name: str
    tasks: int
    ssh_conn_ids: frozenset[str]
    unnamed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WideDag:
    """A DAG that has several tasks on workers at once (layout ``mirror``).

    :param mirror: the DAG's mirror.
    :param tasks: how many of its tasks take a worker.
    :param pools: names of their pools.
    """

    mirror: str
    tasks: int
    pools: frozenset[str]


@dataclass(frozen=True, slots=True)
class Load:
    """What a configuration costs when all its DAGs are switched on.

    :param dags: DAGs, each with one run a minute.
    :param topics: documents a minute.
    :param groups: consumer groups, told apart by id and brokers.
    :param triggerer_tasks: tasks a minute that the triggerer does alone.
    :param worker_tasks: tasks a minute that take a worker.
    :param triggerer_describes: describes a minute by each triggerer.
    :param worker_describes: describes a minute by workers, which share nothing.
    :param triggers_of_a_dag: the most tasks that one DAG has in the triggerer.
    :param triggers_at_once: triggers that run at once when no describe ends in time.
    :param failing_tries: tries a minute of the triggerer's tasks when every one fails.
    :param pools: the pools of the tasks on workers, in the order of the configuration.
    :param wide_dags: the DAGs with several tasks on workers.
    """

    dags: int
    topics: int
    groups: int
    triggerer_tasks: int
    worker_tasks: int
    triggerer_describes: int
    worker_describes: int
    triggers_of_a_dag: int
    triggers_at_once: int
    failing_tries: int
    pools: tuple[PoolLoad, ...]
    wide_dags: tuple[WideDag, ...]

    @property
    def tasks(self) -> int:
        """Tasks a minute."""
        return self.triggerer_tasks + self.worker_tasks


@dataclass(frozen=True, slots=True)
class _Task:
    """One task: its mirror, and what its own keys are taken from."""

    mirror: Mirror
    settings: TopicSettings

    def describe(self) -> tuple[str, str]:
        """Return what is equal for tasks of one minute that share a describe."""
        command = describe_command(
            bootstrap_servers=self.mirror.bootstrap_servers,
            group=self.mirror.group,
            timeout=self.settings.timeout.total_seconds(),
            tool=self.mirror.tool,
            command_config=self.mirror.command_config,
            jvm_opts=self.mirror.jvm_opts,
            class_data_archive=self.mirror.class_data_archive,
        )
        return self.mirror.ssh_conn_id, command

    @property
    def minutes(self) -> int:
        """In how many minutes at most the task is still there, its own counted."""
        longest = self.settings.timeout + EXECUTION_MARGIN
        return min(MAX_ACTIVE_RUNS, math.ceil(longest / _MINUTE))

    @property
    def pool(self) -> str:
        return self.settings.pool or f"lag_{self.mirror.name}"


def load_of(configuration: Configuration, *, version: Version) -> Load:
    """Return the load of a configuration's mirrors on a version of Airflow."""
    tasks = [task for mirror in configuration.mirrors for task in _tasks(mirror)]
    triggered = [task for task in tasks if not takes_worker(task.settings, version=version)]
    on_workers = [task for task in tasks if takes_worker(task.settings, version=version)]
    mirrors = configuration.mirrors
    return Load(
        dags=sum(len(one.topics) if one.layout == "topic" else 1 for one in mirrors),
        topics=sum(len(one.topics) for one in mirrors),
        groups=len({(one.group, frozenset(one.bootstrap_servers)) for one in mirrors}),
        triggerer_tasks=len(triggered),
        worker_tasks=len(on_workers),
        triggerer_describes=len({task.describe() for task in triggered}),
        worker_describes=len(on_workers),
        triggers_of_a_dag=_most_of_a_dag(triggered),
        triggers_at_once=sum(task.minutes for task in triggered),
        failing_tries=sum((task.settings.retries or 0) + 1 for task in triggered),
        pools=_pools(on_workers),
        wide_dags=_wide_dags(on_workers),
    )


def takes_worker(settings: TopicSettings, *, version: Version) -> bool:
    """Return whether a task takes a worker: it is told to, or Airflow knows no other way.

    A configuration holds no templates, so that the operator decides by these two alone.
    """
    return not settings.deferrable or (3, 0) <= version < (3, 3)


def _tasks(mirror: Mirror) -> Iterator[_Task]:
    for settings in [mirror] if mirror.layout == "group" else mirror.topics:
        yield _Task(mirror, settings)


def _most_of_a_dag(tasks: Sequence[_Task]) -> int:
    return max(map(len, _of_shared_dags(tasks).values()), default=min(len(tasks), 1))


def _pools(tasks: Sequence[_Task]) -> tuple[PoolLoad, ...]:
    by_name: defaultdict[str, list[_Task]] = defaultdict(list)
    for task in tasks:
        by_name[task.pool].append(task)
    return tuple(
        PoolLoad(
            name=name,
            tasks=len(members),
            ssh_conn_ids=frozenset(task.mirror.ssh_conn_id for task in members),
            unnamed=tuple(
                dict.fromkeys(task.mirror.name for task in members if not task.settings.pool)
            ),
        )
        for name, members in by_name.items()
    )


def _wide_dags(tasks: Sequence[_Task]) -> tuple[WideDag, ...]:
    return tuple(
        WideDag(mirror, len(members), frozenset(task.pool for task in members))
        for mirror, members in _of_shared_dags(tasks).items()
        if len(members) > 1
    )


def _of_shared_dags(tasks: Sequence[_Task]) -> Mapping[str, list[_Task]]:
    """Return the tasks that have one DAG together (layout ``mirror``), by their mirror's name."""
    by_mirror: defaultdict[str, list[_Task]] = defaultdict(list)
    for task in tasks:
        if task.mirror.layout == "mirror":
            by_mirror[task.mirror.name].append(task)
    return by_mirror
