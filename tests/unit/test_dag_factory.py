"""The DAGs that a configuration file makes, and what parsing them may not touch."""

from __future__ import annotations

import inspect
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent, indent
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_lag_provider import alerts, dag_factory, deadline, yaml_lines
from airflow_lag_provider.dag_factory import build_dags, check_mirrors, dag_id, mirrors_file
from airflow_lag_provider.ended import ended_by_airflow, run_ended_by_airflow
from airflow_lag_provider.errors import ConfigurationError
from airflow_lag_provider.triggers.lag import LagTrigger
from airflow_lag_provider.watch import Watch

ROOT = Path(__file__).parents[2]


def late_sync(*arguments: Any, **keywords: Any) -> None:
    """A callback of a user that both versions can call."""


def mirrors(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mirrors.yaml"
    path.write_text("mirrors:\n" + indent(dedent(text), "  "))
    return path


OASIS = """
oasis:
  ssh_conn_id: mm
  bootstrap_servers: [b-1:9092]
  group: oasis-group
"""


def test_layout_topic_makes_a_dag_for_each_topic(tmp_path: Path) -> None:
    """Each topic has its own switch in the UI, a minute schedule and no catching up."""
    dags = build_dags(mirrors(tmp_path, OASIS + "  topics: {orders: , orders.eu: }\n"))
    assert list(dags) == ["consumer_lag.oasis.orders", "consumer_lag.oasis.orders.eu"]
    dag = dags["consumer_lag.oasis.orders.eu"]
    assert [task.task_id for task in dag.tasks] == ["orders.eu"]
    assert set(dag.tags) == {"consumer-lag", "oasis"}
    assert not dag.catchup
    assert dag.max_active_runs == 3
    schedule = dag.timetable.summary if AIRFLOW_V_3_0_PLUS else dag.schedule_interval
    assert schedule == "* * * * *"
    assert dag.start_date == datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("layout", ["topic", "mirror", "group"])
@pytest.mark.parametrize("deferrable", [True, False])
def test_dags_of_the_triggerer_take_no_part_in_a_bundles_versions(
    tmp_path: Path, layout: str, deferrable: bool
) -> None:
    """Airflow's DAG processor would parse without end; but workers would ask for each version."""
    keys = f"  layout: {layout}\n  deferrable: {str(deferrable).lower()}\n"
    text = OASIS + keys + "  topics: {orders: , clicks: {sla: 90s}}\n"
    dags = build_dags(mirrors(tmp_path, text))
    assert dags
    in_triggerer = deferrable and AIRFLOW_V_3_3_PLUS
    # Airflow 2 has no bundles.
    disabled = {getattr(dag, "disable_bundle_versioning", False) for dag in dags.values()}
    assert disabled == {in_triggerer}


def test_layout_mirror_makes_one_dag_with_a_task_for_each_topic(tmp_path: Path) -> None:
    """One DAG for the mirror, each task named as its topic and independent of the others."""
    dags = build_dags(
        mirrors(tmp_path, OASIS + "  layout: mirror\n  topics: {orders: , orders.eu: }\n")
    )
    assert list(dags) == ["consumer_lag.oasis"]
    tasks = dags["consumer_lag.oasis"].tasks
    assert sorted(task.task_id for task in tasks) == ["orders", "orders.eu"]
    assert not any(task.upstream_task_ids for task in tasks)


def test_the_configuration_reaches_dag_and_task(tmp_path: Path) -> None:
    """What stands in the file is what Airflow and the operator get."""
    path = tmp_path / "mirrors.yaml"
    path.write_text(
        dedent(
            """\
            elasticsearch: {conn_id: es, index: "lag-%Y"}
            mirrors:
              oasis:
                ssh_conn_id: mm
                bootstrap_servers: [b-1:9092, b-2:9092]
                group: oasis-group
                tool: /opt/kafka/bin/kafka-consumer-groups.sh
                command_config: /etc/client.properties
                jvm_opts: -Xmx64M
                class_data_archive: /var/lag
                topics:
                  orders:
                    timeout: 20s
                    retries: 1
                    retry_delay: 2s
                    owner: me
                    pool: lag
                    paused: true
                    tags: [mine]
                    start_date: 2026-01-01
                    access_control: {Viewer: [can_read]}
                  clicks:
            """
        )
    )
    dag = build_dags(path)["consumer_lag.oasis.orders"]
    (task,) = dag.tasks
    watch = task.watch()
    assert dag.is_paused_upon_creation is True
    assert set(dag.tags) == {"consumer-lag", "oasis", "mine"}
    assert dag.start_date == datetime(2026, 1, 1, tzinfo=UTC)
    assert "Viewer" in dag.access_control
    assert (task.owner, task.pool, task.retries) == ("me", "lag", 1)
    assert task.retry_delay == timedelta(seconds=2)
    assert task.execution_timeout > timedelta(seconds=20)
    assert task.on_failure_callback in (ended_by_airflow, [ended_by_airflow])
    assert watch.bootstrap_servers == ("b-1:9092", "b-2:9092")
    assert (watch.ssh_conn_id, watch.elasticsearch_conn_id) == ("mm", "es")
    assert (watch.index, watch.timeout, watch.jvm_opts) == ("lag-%Y", 20.0, "-Xmx64M")
    assert watch.tool == "/opt/kafka/bin/kafka-consumer-groups.sh"
    assert watch.command_config == "/etc/client.properties"
    assert watch.mirrors_file == str(path)
    assert watch.class_data_archive == "/var/lag"


@pytest.mark.parametrize("layout", ["topic", "mirror", "group"])
def test_only_a_dag_on_workers_hears_of_each_run_that_failed(tmp_path: Path, layout: str) -> None:
    """Where the triggerer does the work, a run that fails costs no callback of the DAG."""
    text = OASIS + f"  layout: {layout}\n  topics: {{orders: , clicks: }}\n"
    workers = build_dags(mirrors(tmp_path, text + "  deferrable: false\n"))
    assert {dag.on_failure_callback for dag in workers.values()} == {run_ended_by_airflow}
    triggerer = build_dags(mirrors(tmp_path, text))
    always = AIRFLOW_V_3_0_PLUS and not AIRFLOW_V_3_3_PLUS
    expected = run_ended_by_airflow if always else None
    assert {dag.on_failure_callback for dag in triggerer.values()} == {expected}


def test_the_dags_page_says_what_it_watches(tmp_path: Path) -> None:
    """The text in the UI names group, brokers, host, index and the topic's SLA."""
    dags = build_dags(mirrors(tmp_path, OASIS + "  topics: {orders: {sla: 90s}}\n"))
    text = dags["consumer_lag.oasis.orders"].doc_md
    for words in ("oasis-group", "b-1:9092", "`mm`", "consumer_lag", "`orders`", "90 s"):
        assert words in text


def test_a_mistake_in_one_mirror_stops_no_other(tmp_path: Path) -> None:
    """The mirrors that are right have their DAGs, and the check names every mistake."""
    path = mirrors(
        tmp_path,
        OASIS
        + "  topics: {orders: }\n"
        + OASIS.replace("oasis:", "broken:", 1)
        + "  topics: {clicks: {max_lag: many}, 'a b': }\n",
    )
    assert list(build_dags(path)) == ["consumer_lag.oasis.orders"]
    with pytest.raises(ConfigurationError) as raised:
        check_mirrors(path)
    assert len(str(raised.value).splitlines()) == 2
    assert "mirrors.broken.topics.clicks.max_lag" in str(raised.value)


def test_a_callback_that_is_not_there_is_a_mistake_of_its_mirror(tmp_path: Path) -> None:
    """A wrong import path shows with its line instead of silence when a run is late."""
    path = mirrors(
        tmp_path,
        OASIS + "  topics: {orders: {sla: 90s, sla_miss_callback: no.such.function}}\n",
    )
    assert build_dags(path) == {}
    with pytest.raises(ConfigurationError, match=r"mirrors.yaml:7: .*sla_miss_callback"):
        check_mirrors(path)


def test_a_mirror_that_airflow_refuses_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with the DAGs of one mirror, the others are built and the check tells."""

    def refuse(topics: Any, *, mirror: str, **_: Any) -> dict[str, Any]:
        if mirror == "odd":
            raise RuntimeError("Airflow says no")
        return {}

    monkeypatch.setattr(deadline, "dag_arguments", refuse)
    topics = "  topics: {orders: }\n"
    path = mirrors(tmp_path, OASIS.replace("oasis:", "odd:", 1) + topics + OASIS + topics)
    assert list(build_dags(path)) == ["consumer_lag.oasis.orders"]
    with pytest.raises(ConfigurationError, match=r"mirrors\.odd: RuntimeError: Airflow says no"):
        check_mirrors(path)


def test_a_right_configuration_passes_the_check() -> None:
    """The example in the repository has no mistake."""
    check_mirrors(ROOT / "include" / "mirrors.yaml")


def test_ids_that_are_too_long_keep_their_head_and_end_in_a_hash() -> None:
    """Two long topics that differ only at their end have different ids that Airflow takes."""
    first, second = (dag_id("oasis", "t" * 248 + end) for end in "ab")
    assert len(first) == len(second) == 250
    assert first.startswith("consumer_lag.oasis.ttt")
    assert first != second
    assert dag_id("oasis", "orders") == "consumer_lag.oasis.orders"
    assert dag_id("oasis") == "consumer_lag.oasis"


def test_the_file_beside_the_dags_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """include/mirrors.yaml beside the DAG folder, unless Airflow's configuration names another."""
    assert mirrors_file("/x/dags/mirror_lag.py") == Path("/x/include/mirrors.yaml")
    monkeypatch.setenv("AIRFLOW__LAG__MIRRORS_FILE", "/etc/mirrors.yaml")
    assert mirrors_file("/x/dags/mirror_lag.py") == Path("/etc/mirrors.yaml")


def sla_of(tmp_path: Path, topics: str, layout: str = "mirror") -> Any:
    path = mirrors(tmp_path, OASIS + f"  layout: {layout}\n  topics: {topics}\n")
    (dag,) = build_dags(path).values()
    return dag


def test_an_sla_reaches_airflow_in_the_form_of_its_version(tmp_path: Path) -> None:
    """On 2.11 the task has the sla and the DAG our callback; on 3 the DAG has a deadline."""
    dag = sla_of(tmp_path, "{orders: {sla: 90s}}")
    (task,) = dag.tasks
    if AIRFLOW_V_3_0_PLUS:
        (deadline,) = dag.deadline
        assert deadline.interval == timedelta(seconds=90)
        assert type(deadline.reference).__name__ == "DagRunLogicalDateDeadline"
        assert type(deadline.callback).__name__ == "AsyncCallback"
        assert deadline.callback.path == "airflow_lag_provider.alerts.deadline_missed"
        inspect.signature(alerts.deadline_missed).bind(context={}, **deadline.callback.kwargs)
        assert deadline.callback.kwargs == {
            "mirror": "oasis",
            "topics": ["orders"],
            "sla": 90.0,
            "elasticsearch_conn_id": "elasticsearch_default",
            "index": "consumer_lag",
            "callback": None,
        }
    else:
        assert task.sla == timedelta(seconds=90)
        assert dag.sla_miss_callback is alerts.log_sla_miss


@pytest.mark.parametrize("layout", ["mirror", "group"])
def test_each_distinct_sla_of_a_dag_is_one_deadline(tmp_path: Path, layout: str) -> None:
    """It names the topics with that `sla`; on 2.11 a task has its own, or its topics' shortest."""
    dag = sla_of(tmp_path, "{a: {sla: 90s}, b: {sla: 2m}, c: {sla: 90s}, d: }", layout)
    second = timedelta(seconds=1)
    if AIRFLOW_V_3_0_PLUS:
        deadlines = {one.interval: one.callback.kwargs["topics"] for one in dag.deadline}
        assert deadlines == {90 * second: ["a", "c"], 120 * second: ["b"]}
    elif layout == "mirror":
        slas = {task.task_id: task.sla for task in dag.tasks}
        assert slas == {"a": 90 * second, "b": 120 * second, "c": 90 * second, "d": None}
    else:
        assert [task.sla for task in dag.tasks] == [90 * second]


def test_a_dag_without_an_sla_has_no_deadline_and_no_callback(tmp_path: Path) -> None:
    """Nothing is due where nothing was asked for."""
    dag = sla_of(tmp_path, "{orders: }")
    assert not getattr(dag, "deadline", None)
    assert not getattr(dag, "sla_miss_callback", None)


def test_the_users_own_callback_reaches_airflow(tmp_path: Path) -> None:
    """On 3 our own callback, which knows what is late, gets its path; 2.11 gets it itself."""
    path = f"{__name__}.late_sync"
    dag = sla_of(tmp_path, f"{{orders: {{sla: 90s}}}}\n  sla_miss_callback: {path}")
    if AIRFLOW_V_3_0_PLUS:
        callback = dag.deadline[0].callback
        assert callback.path == "airflow_lag_provider.alerts.deadline_missed"
        assert callback.kwargs["callback"] == path
    else:
        assert dag.sla_miss_callback is late_sync


PARSE = """
import socket, sys
def refuse(*arguments, **keywords):
    raise AssertionError("the network was used")
socket.socket.connect = socket.getaddrinfo = refuse
from airflow.models import Connection
try:
    from airflow.sdk import BaseHook
except ImportError:
    from airflow.hooks.base import BaseHook
BaseHook.get_connection = classmethod(refuse)
import runpy
dags = runpy.run_path("dags/mirror_lag.py")
assert "consumer_lag.oasis.orders" in dags, sorted(dags)
runpy.run_path("dags/mirror_lag_check.py")
heavy = {"asyncssh", "paramiko", "elasticsearch", "elastic_transport", "aiohttp"}
print(sorted(heavy & set(sys.modules)))
"""


def test_parsing_uses_no_network_no_connection_and_no_client() -> None:
    """The DAG files import neither asyncssh nor elasticsearch and touch nothing outside."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_dag_can_be_serialized(tmp_path: Path) -> None:
    """What the DAG processor does with each DAG works, deadlines and access rules included."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialized
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as Serialized
    dag = sla_of(tmp_path, "{orders: {sla: 90s}}\n  access_control: {Viewer: [can_read]}")
    assert "consumer_lag.oasis" in str(Serialized.to_dict(dag)["dag"])


def test_layout_group_makes_one_task_for_all_topics(tmp_path: Path) -> None:
    """One DAG for the mirror whose one task watches every topic, with the mirror's settings."""
    topics = "{orders: {sla: 90s}, clicks: {sla: 60s}}"
    dags = build_dags(
        mirrors(
            tmp_path, OASIS + f"  layout: group\n  timeout: 20s\n  retries: 1\n  topics: {topics}\n"
        )
    )
    assert list(dags) == ["consumer_lag.oasis"]
    (task,) = dags["consumer_lag.oasis"].tasks
    assert task.task_id == "all_topics"
    assert task.watch().topics == ("orders", "clicks")
    assert (task.timeout, task.retries) == (timedelta(seconds=20), 1)
    if not AIRFLOW_V_3_0_PLUS:
        assert task.sla == timedelta(seconds=60)


@pytest.mark.parametrize(("key", "owner"), [("timeout: 20s", "task"), ("paused: true", "DAG")])
def test_a_topic_of_layout_group_has_no_task_of_its_own(
    tmp_path: Path, key: str, owner: str
) -> None:
    """What belongs to the shared task or DAG can't stand on one of its topics."""
    path = mirrors(tmp_path, OASIS + f"  layout: group\n  topics: {{orders: {{{key}}}}}\n")
    with pytest.raises(ConfigurationError, match=f"belongs to the {owner}, which all topics share"):
        check_mirrors(path)


@pytest.mark.parametrize("deferrable", ["true", "false"])
def test_the_triggerer_does_the_work_unless_the_configuration_says_otherwise(
    tmp_path: Path, deferrable: str
) -> None:
    """`deferrable` reaches the task, whose trigger carries the file's path instead of names."""
    path = mirrors(tmp_path, OASIS + f"  deferrable: {deferrable}\n  topics: {{orders: , b: }}\n")
    (task,) = build_dags(path)["consumer_lag.oasis.orders"].tasks
    assert task.start_from_trigger is (deferrable == "true")
    if deferrable == "true":
        trigger = LagTrigger(**task.start_trigger_args.trigger_kwargs)
        assert trigger.watch["mirrors_file"] == str(path)
        assert Watch.from_json(trigger.watch) == task.watch()


def test_only_the_dag_that_airflow_asks_for_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that needs one DAG of three hundred doesn't wait for the others."""
    path = mirrors(tmp_path, OASIS + "  topics: {orders: , clicks: , views: }\n")
    context = SimpleNamespace(dag_id="consumer_lag.oasis.clicks")
    monkeypatch.setattr(dag_factory, "get_parsing_context", lambda: context)
    assert list(build_dags(path)) == ["consumer_lag.oasis.clicks"]
    context.dag_id = "somebody_elses"
    assert build_dags(path) == {}
    context.dag_id = None
    assert len(build_dags(path)) == 3


def test_the_file_is_read_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both DAG files of one parse share one reading; a change is seen at once."""
    path = mirrors(tmp_path, OASIS + "  topics: {orders: }\n")
    reads: list[Path] = []
    real = yaml_lines.read

    def read(file: Path) -> Any:
        reads.append(file)
        return real(file)

    monkeypatch.setattr(yaml_lines, "read", read)
    build_dags(path)
    check_mirrors(path)
    build_dags(path)
    assert reads == [path]
    mirrors(tmp_path, OASIS + "  topics: {orders: , clicks: }\n")
    assert len(build_dags(path)) == 2
    path.unlink()
    with pytest.raises(ConfigurationError):
        build_dags(path)
