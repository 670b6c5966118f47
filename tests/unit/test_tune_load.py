"""What a configuration asks of Airflow and of the MirrorMaker hosts each minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow import __version__ as airflow

from airflow_lag_provider import config
from airflow_lag_provider.dag_factory import build_dags
from airflow_lag_provider.tune_load import Load, PoolLoad, WideDag, load_of

V2, V3_1, V3 = (2, 11), (3, 1), (3, 3)
MIRROR = {"ssh_conn_id": "mm", "bootstrap_servers": ["b:9092"], "group": "g"}


def topics(number: int) -> dict[str, Any]:
    return {f"t{one}": None for one in range(number)}


def write(folder: Path, **mirrors: dict[str, Any]) -> Path:
    path = folder / "mirrors.yaml"
    path.write_text(yaml.safe_dump({"mirrors": {n: MIRROR | m for n, m in mirrors.items()}}))
    return path


def load(folder: Path, version: tuple[int, int] = V3, **mirrors: dict[str, Any]) -> Load:
    return load_of(config.load(write(folder, **mirrors)), version=version)


@pytest.mark.parametrize("number", [1, 300, 1000])
@pytest.mark.parametrize("version", [V2, V3])
def test_layout_topic_has_a_dag_and_a_task_for_each_topic(
    tmp_path: Path, version: tuple[int, int], number: int
) -> None:
    """All of them go through the triggerer, which takes one describe for the whole group."""
    one = load(tmp_path, version, oasis={"topics": topics(number)})
    assert (one.dags, one.topics, one.tasks, one.groups) == (number, number, number, 1)
    assert (one.triggerer_tasks, one.worker_tasks) == (number, 0)
    assert (one.triggerer_describes, one.worker_describes) == (1, 0)
    assert one.triggers_of_a_dag == 1
    assert one.pools == one.wide_dags == ()


def test_layout_mirror_has_one_dag_with_a_task_for_each_topic(tmp_path: Path) -> None:
    """The number of runs falls to one, that of tasks doesn't."""
    one = load(tmp_path, oasis={"layout": "mirror", "topics": topics(300)})
    assert (one.dags, one.topics, one.tasks, one.triggerer_describes) == (1, 300, 300, 1)
    assert one.triggers_of_a_dag == 300
    assert one.wide_dags == ()


def test_layout_group_has_one_task_for_all_topics(tmp_path: Path) -> None:
    """One DAG, one task, a document for each topic."""
    one = load(tmp_path, oasis={"layout": "group", "topics": topics(1000)})
    assert (one.dags, one.topics, one.tasks, one.triggerer_describes) == (1, 1000, 1, 1)


@pytest.mark.parametrize(
    ("version", "keys"), [(V3_1, {}), ((3, 2), {}), (V3, {"deferrable": False})]
)
def test_a_task_on_a_worker_takes_its_own_describe(
    tmp_path: Path, version: tuple[int, int], keys: dict[str, Any]
) -> None:
    """Without the triggerer each task connects to the host and starts a JVM there."""
    one = load(tmp_path, version, oasis={"topics": topics(100), **keys})
    assert (one.triggerer_tasks, one.worker_tasks) == (0, 100)
    assert (one.triggerer_describes, one.worker_describes) == (0, 100)
    assert one.triggers_at_once == one.failing_tries == 0
    assert one.pools == (PoolLoad("lag_oasis", 100, frozenset({"mm"}), ("oasis",)),)


def test_some_topics_on_workers_and_the_others_not(tmp_path: Path) -> None:
    """What stands on a topic counts for its task alone."""
    some = topics(8) | {"slow": {"deferrable": False}, "slower": {"deferrable": False}}
    one = load(tmp_path, oasis={"layout": "mirror", "topics": some})
    assert (one.triggerer_tasks, one.worker_tasks) == (8, 2)
    assert one.wide_dags == (WideDag("oasis", 2, frozenset({"lag_oasis"})),)


def test_mirrors_share_a_describe_only_when_everything_is_equal(tmp_path: Path) -> None:
    """Another time-out is another command, so the group is described twice."""
    keys = {"topics": topics(2)}
    assert load(tmp_path, a=keys, b=keys).triggerer_describes == 1
    split = load(tmp_path, a=keys, b=keys | {"timeout": "20s"})
    assert (split.groups, split.triggerer_describes) == (1, 2)
    archive = keys | {"class_data_archive": "/var/lag"}
    assert load(tmp_path, a=archive, b=archive).triggerer_describes == 1
    assert load(tmp_path, a=keys, b=archive).triggerer_describes == 2
    assert load(tmp_path, a=keys, b=keys | {"group": "h"}).groups == 2


def test_a_pool_of_the_configuration_keeps_its_name(tmp_path: Path) -> None:
    """Mirrors that name one pool share it; only those that name none are told to."""
    named = {"topics": topics(3), "deferrable": False, "pool": "kafka"}
    one = load(tmp_path, a=named, b=named | {"ssh_conn_id": "other"}, c=named | {"pool": None})
    assert one.pools == (
        PoolLoad("kafka", 6, frozenset({"mm", "other"}), ()),
        PoolLoad("lag_c", 3, frozenset({"mm"}), ("c",)),
    )


@pytest.mark.parametrize(("timeout", "minutes"), [("10s", 2), ("25s", 2), ("26s", 3), ("55s", 3)])
def test_triggers_of_several_minutes_meet_while_a_host_hangs(
    tmp_path: Path, timeout: str, minutes: int
) -> None:
    """A trigger may stay as long as Airflow lets its task run, and not more than three do."""
    keys = {"topics": topics(10), "timeout": timeout}
    assert load(tmp_path, oasis=keys).triggers_at_once == 10 * minutes


def test_each_try_of_a_failing_task_counts(tmp_path: Path) -> None:
    """With one retry a task that fails each time has two tries a minute."""
    keys = {"topics": topics(10), "timeout": "20s"}
    assert load(tmp_path, oasis=keys | {"retries": 1}).failing_tries == 20
    assert load(tmp_path, oasis=keys | {"retries": 0}).failing_tries == 10


def test_the_load_is_that_of_the_dags_that_airflow_gets(tmp_path: Path) -> None:
    """The factory, on this version of Airflow, builds as many DAGs and tasks of each kind."""
    path = write(
        tmp_path,
        a={"topics": topics(3) | {"slow": {"deferrable": False}}},
        b={"layout": "mirror", "topics": topics(4), "deferrable": False, "group": "h"},
        c={"layout": "group", "topics": topics(5), "timeout": "55s"},
    )
    major, minor = airflow.split(".")[:2]
    one = load_of(config.load(path), version=(int(major), int(minor)))
    dags = build_dags(path).values()
    tasks = [task for dag in dags for task in dag.tasks]
    assert (one.dags, one.tasks) == (len(dags), len(tasks)) == (6, 9)
    assert one.triggerer_tasks == sum(bool(task.start_from_trigger) for task in tasks)
