"""Which settings a load needs on each version of Airflow, and which suffice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_lag_provider import config, tune_report
from airflow_lag_provider.tune import Advice, advise
from airflow_lag_provider.tune_load import load_of
from airflow_lag_provider.tune_report import Inventory
from airflow_lag_provider.tune_settings import Setting

V2, V3_1, V3 = (2, 11), (3, 1), (3, 3)
PASSWORD = "hush-postgres"
DEFAULTS = {
    ("core", "executor"): "LocalExecutor",
    ("core", "parallelism"): "32",
    ("core", "max_active_tasks_per_dag"): "16",
    ("celery", "worker_concurrency"): "16",
    ("scheduler", "max_dagruns_to_create_per_loop"): "10",
    ("scheduler", "max_dagruns_per_loop_to_schedule"): "20",
    ("scheduler", "scheduler_idle_sleep_time"): "1",
    ("database", "sql_alchemy_conn"): f"postgresql+psycopg2://airflow:{PASSWORD}@db/airflow",
}
OF_VERSION = {
    2: {
        ("scheduler", "min_file_process_interval"): "30",
        ("scheduler", "max_callbacks_per_loop"): "20",
        ("triggerer", "default_capacity"): "1000",
        ("scheduler", "scheduler_zombie_task_threshold"): "300",
    },
    3: {
        ("dag_processor", "min_file_process_interval"): "30",
        ("dag_processor", "max_callbacks_per_loop"): "20",
        ("triggerer", "capacity"): "1000",
        ("triggerer", "max_trigger_to_select_per_loop"): "50",
        ("scheduler", "task_instance_heartbeat_timeout"): "300",
    },
}

ERROR = "OperationalError"
RECIPE: dict[str, Any] = {"path": Path("m.yaml"), "airflow": "3.3.2", "inventory": ERROR}

# A task on a worker needs it on 3.x; it is called otherwise on 2.11.
HEARTBEAT = {"scheduler.task_instance_heartbeat_timeout": 60}


def advice(
    folder: Path,
    version: tuple[int, int] = V3,
    *,
    topics: int = 1,
    present: dict[tuple[str, str], str] | None = None,
    mirrors: int = 1,
    socket_buffer: int | None = None,
    **keys: Any,
) -> Advice:
    """Return the advice for mirrors of so many topics with Airflow's defaults and PostgreSQL."""
    mirror = {"bootstrap_servers": ["b:9092"], "group": "g", **keys}
    mirror["topics"] = {f"t{one}": None for one in range(topics)}
    path = folder / "mirrors.yaml"
    path.write_text(yaml.safe_dump({"mirrors": {f"m{one}": mirror for one in range(mirrors)}}))
    values = DEFAULTS | OF_VERSION[version[0]] | (present or {})
    return advise(
        load_of(config.load(path), version=version),
        version=version,
        present=lambda section, key: values.get((section, key)),
        socket_buffer=socket_buffer,
    )


def changes(one: Advice) -> dict[str, int | str]:
    return {f"{s.section}.{s.key}": s.needed for s in one.settings if not s.suffices}


def setting(one: Advice, key: str) -> Setting:
    (found,) = (setting for setting in one.settings if setting.key == key)
    return found


@pytest.mark.parametrize("version", [V2, V3_1, V3])
@pytest.mark.parametrize("layout", ["topic", "mirror", "group"])
def test_one_topic_needs_nothing(tmp_path: Path, layout: str, version: tuple[int, int]) -> None:
    """Airflow's defaults suffice, but for how late a worker that was lost is noticed."""
    one = advice(tmp_path, version, layout=layout)
    assert changes(one) == (HEARTBEAT if version == V3_1 else {})
    assert all(setting.reason and setting.present is not None for setting in one.settings)


def test_300_topics_on_airflow_3(tmp_path: Path) -> None:
    """The scheduler makes and starts 100 runs a loop, and the DAG processor parses less often."""
    one = advice(tmp_path, topics=300)
    assert changes(one) == {
        "scheduler.max_dagruns_to_create_per_loop": 100,
        "scheduler.max_dagruns_per_loop_to_schedule": 100,
        "scheduler.scheduler_idle_sleep_time": "0.3",
        "dag_processor.min_file_process_interval": 90,
        "dag_processor.max_callbacks_per_loop": 300,
        "triggerer.max_trigger_to_select_per_loop": 300,
    }
    assert (one.triggerers, one.pools) == (1, ())
    assert setting(one, "capacity").needed == 600
    assert setting(one, "parallelism").suffices


def test_300_topics_on_airflow_2(tmp_path: Path) -> None:
    """There the interval is the scheduler's, and no callbacks of ended tasks are read."""
    one = advice(tmp_path, V2, topics=300)
    assert changes(one) == {
        "scheduler.max_dagruns_to_create_per_loop": 100,
        "scheduler.max_dagruns_per_loop_to_schedule": 100,
        "scheduler.scheduler_idle_sleep_time": "0.3",
        "scheduler.min_file_process_interval": 90,
    }
    assert setting(one, "default_capacity").suffices
    assert setting(one, "parallelism").needed == 20
    assert any("callback_request" in note and "432,000" in note for note in one.notes)


def test_1000_topics_need_room_in_the_triggerer(tmp_path: Path) -> None:
    """A triggerer holds the tasks of two minutes while a host hangs."""
    one = advice(tmp_path, topics=1000)
    assert changes(one) == {
        "scheduler.max_dagruns_to_create_per_loop": 100,
        "scheduler.max_dagruns_per_loop_to_schedule": 100,
        "scheduler.scheduler_idle_sleep_time": "0.3",
        "dag_processor.min_file_process_interval": 300,
        "dag_processor.max_callbacks_per_loop": 1000,
        "triggerer.capacity": 2000,
        "triggerer.max_trigger_to_select_per_loop": 1000,
    }
    assert one.triggerers == 1
    assert advice(tmp_path, topics=1001, mirrors=2).triggerers == 2


@pytest.mark.parametrize("version", [V2, V3])
def test_layout_mirror_needs_room_in_the_triggerer_only(
    tmp_path: Path, version: tuple[int, int]
) -> None:
    """One DAG is no burden for the scheduler, however many tasks it has."""
    one = advice(tmp_path, version, topics=1000, layout="mirror")
    assert setting(one, "max_dagruns_to_create_per_loop").needed == 1
    assert setting(one, "min_file_process_interval").suffices
    assert changes(one).get("triggerer.capacity" if version == V3 else "triggerer.default_capacity")
    assert not any(s.key == "max_active_tasks_per_dag" for s in one.settings)


@pytest.mark.parametrize(
    ("version", "topics", "said"), [(V3, 300, True), (V3, 50, False), (V2, 300, False)]
)
def test_what_copies_of_a_wide_dag_cost_is_said(
    tmp_path: Path, version: tuple[int, int], topics: int, said: bool
) -> None:
    """Airflow 3.3 gives each trigger its whole DAG, so that layout mirror costs by the square."""
    notes = advice(tmp_path, version, topics=topics, layout="mirror").notes
    assert ["1,620 MB and 24 CPU-seconds" in note for note in notes][0] is said
    assert not any("copy" in note for note in advice(tmp_path, version, topics=300).notes)


@pytest.mark.parametrize("version", [V2, V3_1, V3])
def test_layout_group_needs_nothing_for_1000_topics(
    tmp_path: Path, version: tuple[int, int]
) -> None:
    """One task a minute is nothing, whatever it stores."""
    one = advice(tmp_path, version, topics=1000, layout="group")
    assert changes(one) == (HEARTBEAT if version == V3_1 else {})


def test_tasks_on_workers_get_a_pool_and_slots(tmp_path: Path) -> None:
    """100 tasks of 5 s get as many slots as a host takes connections."""
    one = advice(
        tmp_path, V3_1, topics=100, layout="mirror", present={("core", "parallelism"): "4"}
    )
    (pool,) = one.pools
    assert (pool.name, pool.slots, pool.enough, pool.unnamed) == ("lag_m0", 10, True, ("m0",))
    assert changes(one) == HEARTBEAT | {"core.parallelism": 10}
    assert setting(one, "max_active_tasks_per_dag").needed == 10
    assert (one.triggerers, [s.key for s in one.settings if s.section == "triggerer"]) == (0, [])


def test_few_tasks_on_workers_get_few_slots(tmp_path: Path) -> None:
    """Twelve tasks of 5 s end within half a minute in two slots."""
    (pool,) = advice(tmp_path, topics=12, deferrable=False).pools
    assert pool.slots == 2


def test_more_than_a_host_takes_is_said(tmp_path: Path) -> None:
    """When a host's connections don't suffice, the advice says so and what to do."""
    (pool,) = advice(tmp_path, topics=121, deferrable=False).pools
    assert (pool.slots, pool.enough) == (10, False)
    assert "layout group" in pool.reason


def test_pools_of_one_host_share_its_connections(tmp_path: Path) -> None:
    """Three mirrors on one host may together open as many connections as one."""
    pools = advice(tmp_path, topics=100, mirrors=3, deferrable=False).pools
    assert [pool.slots for pool in pools] == [3, 3, 3]


def test_a_dag_of_many_tasks_must_be_let_run_them(tmp_path: Path) -> None:
    """In layout mirror the limit of a DAG is as important as the pool."""
    low = {("core", "max_active_tasks_per_dag"): "4"}
    one = advice(tmp_path, topics=100, layout="mirror", deferrable=False, present=low)
    assert changes(one) == HEARTBEAT | {"core.max_active_tasks_per_dag": 10}


def test_what_suffices_is_kept(tmp_path: Path) -> None:
    """Values at or above what is needed stay, however much is needed."""
    plenty = {
        ("scheduler", "max_dagruns_to_create_per_loop"): "200",
        ("scheduler", "max_dagruns_per_loop_to_schedule"): "100",
        ("scheduler", "scheduler_idle_sleep_time"): "0.1",
        ("dag_processor", "min_file_process_interval"): "90",
        ("dag_processor", "max_callbacks_per_loop"): "300",
        ("triggerer", "max_trigger_to_select_per_loop"): "300",
    }
    assert changes(advice(tmp_path, topics=300, present=plenty)) == {}


def test_higher_limits_of_the_scheduler_are_left(tmp_path: Path) -> None:
    """Other DAGs may need them; only a sleep that can't be read is replaced."""
    high = {
        ("scheduler", "max_dagruns_to_create_per_loop"): "300",
        ("scheduler", "max_dagruns_per_loop_to_schedule"): "5000",
        ("scheduler", "scheduler_idle_sleep_time"): "soon",
    }
    found = changes(advice(tmp_path, topics=300, present=high))
    assert {name for name in found if name.startswith("scheduler.")} == {
        "scheduler.scheduler_idle_sleep_time"
    }


def test_the_scheduler_sleeps_as_it_does_where_tasks_take_workers(tmp_path: Path) -> None:
    """A task that goes to a worker is work in its eyes, after which it doesn't sleep."""
    one = advice(tmp_path, V3_1, topics=300)
    assert not any(setting.key == "scheduler_idle_sleep_time" for setting in one.settings)


def test_one_loop_takes_all_where_it_can(tmp_path: Path) -> None:
    """With few DAGs the scheduler may sleep as it does, and a higher limit does no harm."""
    high = {
        ("scheduler", "max_dagruns_to_create_per_loop"): "300",
        ("scheduler", "max_dagruns_per_loop_to_schedule"): "300",
    }
    found = changes(advice(tmp_path, topics=100, present=high))
    assert not any(name.startswith("scheduler.") for name in found)


@pytest.mark.parametrize("value", ["", "many"])
def test_a_value_that_is_no_number_never_suffices(tmp_path: Path, value: str) -> None:
    """A present value that can't be read is replaced."""
    broken = {("triggerer", "capacity"): value}
    assert changes(advice(tmp_path, present=broken)) == {"triggerer.capacity": 2}


def test_no_limit_suffices(tmp_path: Path) -> None:
    """A parallelism of 0 is no limit on Airflow 2."""
    none = {("core", "parallelism"): "0"}
    assert changes(advice(tmp_path, V2, topics=300, present=none)).get("core.parallelism") is None


@pytest.mark.parametrize(
    ("version", "key"),
    [(V2, "scheduler_zombie_task_threshold"), (V3, "task_instance_heartbeat_timeout")],
)
def test_a_lost_worker_must_be_noticed_soon(
    tmp_path: Path, version: tuple[int, int], key: str
) -> None:
    """Less than a minute suffices, more does not, and without tasks on workers it is no matter."""
    for value, suffices in (("300", False), ("61", False), ("60", True), ("20", True), ("", False)):
        present = {("scheduler", key): value}
        one = setting(advice(tmp_path, version, deferrable=False, present=present), key)
        assert (one.needed, one.suffices) == (60, suffices)
    assert key not in [one.key for one in advice(tmp_path, version).settings]
    few = advice(tmp_path, version, deferrable=False, present={("scheduler", key): "20"})
    text = tune_report.text(few, **RECIPE)
    assert "20, at most 60 needed" in text


@pytest.mark.parametrize("name", ["SequentialExecutor", "airflow.executors.x.SequentialExecutor"])
def test_the_sequential_executor_is_refused_where_a_task_may_take_a_worker(
    tmp_path: Path, name: str
) -> None:
    """It holds up the scheduler; on Airflow 2 a retry alone needs a worker."""
    one = advice(tmp_path, V2, present={("core", "executor"): name})
    assert changes(one) == {"core.executor": "LocalExecutor"}


def test_celery_workers_need_the_slots(tmp_path: Path) -> None:
    """With Celery the slots are the workers' own."""
    celery = {
        ("core", "executor"): "CeleryExecutor,LocalExecutor",
        ("celery", "worker_concurrency"): "4",
    }
    one = advice(tmp_path, topics=100, deferrable=False, present=celery)
    assert changes(one)["celery.worker_concurrency"] == 10


def test_sqlite_is_for_trying_out(tmp_path: Path) -> None:
    """More than a handful of tasks a minute need another database."""
    sqlite = {("database", "sql_alchemy_conn"): "sqlite:////opt/airflow/airflow.db"}
    assert changes(advice(tmp_path, topics=3, present=sqlite)) == {}
    assert list(changes(advice(tmp_path, topics=11, present=sqlite))) == [
        "scheduler.max_dagruns_to_create_per_loop",
        "database.sql_alchemy_conn",
    ]


@pytest.mark.parametrize("version", [V2, V3_1, V3])
@pytest.mark.parametrize("report", [tune_report.text, tune_report.environment])
def test_the_databases_password_is_not_printed(
    tmp_path: Path, report: Any, version: tuple[int, int]
) -> None:
    """Of the database's address only its kind is shown."""
    printed = report(advice(tmp_path, version, topics=300), **RECIPE)
    assert "postgresql+psycopg2" in printed
    assert PASSWORD not in printed


def test_the_text_says_load_changes_and_what_suffices(tmp_path: Path) -> None:
    """A reader sees what it was calculated from, present and needed values, and reasons."""
    printed = tune_report.text(
        advice(tmp_path, topics=300),
        path=Path("/opt/mirrors.yaml"),
        airflow="3.3.2",
        inventory=Inventory({}, triggerers=2),
    )
    assert "/opt/mirrors.yaml on Airflow 3.3.2" in printed
    assert "(300 in the triggerer alone, 0 on workers)" in printed
    assert "(1 by each triggerer, 0 by workers)" in printed
    assert "[scheduler] max_dagruns_to_create_per_loop    10 -> 100\n      300 DAGs" in printed
    changed, kept = printed.split("These suffice as they are:")
    assert "[core] parallelism" in kept
    assert "[core] parallelism" not in changed
    assert "Triggerers: 1 carries" in printed
    assert "Running now: 2." in printed.replace("\n", " ")


def test_the_text_says_when_nothing_has_to_change(tmp_path: Path) -> None:
    """No list of changes, but one clear sentence."""
    printed = tune_report.text(advice(tmp_path), **RECIPE)
    assert "No setting has to change." in printed
    assert "->" not in printed


def test_the_environment_file_changes_only_what_does_not_suffice(tmp_path: Path) -> None:
    """Every other line is a comment, reasons and the password's place included."""
    sqlite = {("database", "sql_alchemy_conn"): "sqlite:////airflow.db"}
    one = advice(tmp_path, topics=300, present=sqlite)
    lines = tune_report.environment(one, **RECIPE).splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP=100",
        "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE=100",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME=0.3",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL=90",
        "AIRFLOW__DAG_PROCESSOR__MAX_CALLBACKS_PER_LOOP=300",
        "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP=300",
    ]
    at = lines.index("AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP=100")
    assert lines[at - 1] == "# now: 10"
    assert lines[at - 2].startswith("# ")
    assert "# AIRFLOW__CORE__PARALLELISM: 32, 1 needed" in lines
    assert any(line.startswith("# AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgres") for line in lines)


@pytest.mark.parametrize("report", [tune_report.text, tune_report.environment])
def test_pools_are_printed_as_commands(tmp_path: Path, report: Any) -> None:
    """A pool's name comes from the configuration, so it is quoted for the shell."""
    one = advice(tmp_path, topics=12, deferrable=False, pool="mirror maker; x")
    printed = report(one, **RECIPE)
    assert "airflow pools set 'mirror maker; x' 2 'Lag of MirrorMaker, 12 tasks a min" in printed
    assert "To use it" not in printed
    unnamed = advice(tmp_path, topics=12, deferrable=False)
    printed = report(unnamed, **RECIPE)
    assert "write `pool: lag_m0` under mirrors.m0." in printed


@pytest.mark.parametrize("report", [tune_report.text, tune_report.environment])
@pytest.mark.parametrize(
    ("pools", "words"),
    [({"lag_m0": 1}, "1 slot"), ({"lag_m0": -1}, "no limit"), ({"lag": 4}, "no such pool")],
)
def test_a_pool_is_shown_as_it_is_now(
    tmp_path: Path, report: Any, pools: dict[str, int], words: str
) -> None:
    """A reader sees whether the command has anything to change."""
    one = advice(tmp_path, topics=12, deferrable=False)
    printed = report(one, **RECIPE | {"inventory": Inventory(pools, triggerers=1)})
    assert f"now: {words}" in printed.lower()


def test_a_database_that_cant_be_asked_is_said(tmp_path: Path) -> None:
    """What is there now isn't known then, neither pools nor triggerers; all else is the same."""
    printed = tune_report.text(advice(tmp_path, topics=12, deferrable=False), **RECIPE)
    unknown = "not known, Airflow's database could not be asked (OperationalError)."
    assert f"Now: {unknown}" in printed
    printed = tune_report.text(advice(tmp_path, topics=12), **RECIPE).replace("\n", " ")
    assert f"Running now: {unknown}" in printed


def test_hundreds_of_triggers_need_room_in_the_hosts_sockets(tmp_path: Path) -> None:
    """What Linux has now stands beside what is needed; where it suffices nothing is said."""
    (words,) = filter(_of_host, advice(tmp_path, topics=300, socket_buffer=212992).notes)
    assert "net.core.wmem_default to 4194304 (here 212992 now)" in words
    assert not any(map(_of_host, advice(tmp_path, topics=300, socket_buffer=4194304).notes))


def test_the_hosts_sockets_are_asked_for_without_their_present_size(tmp_path: Path) -> None:
    """Where it can't be read, the note says what to set all the same."""
    (words,) = filter(_of_host, advice(tmp_path, topics=300).notes)
    assert "can't be seen here" in words


@pytest.mark.parametrize(
    ("version", "topics", "deferrable"), [(V3, 50, True), (V2, 300, True), (V3, 300, False)]
)
def test_other_loads_leave_the_hosts_sockets_alone(
    tmp_path: Path, version: tuple[int, int], topics: int, deferrable: bool
) -> None:
    """Few triggers, none, or Airflow 2.11, whose triggerer is one process."""
    one = advice(tmp_path, version, topics=topics, deferrable=deferrable, socket_buffer=212992)
    assert not any(map(_of_host, one.notes))


def _of_host(note: str) -> bool:
    return "net.core.wmem_default" in note
