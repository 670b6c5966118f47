"""Builds the DAGs of a configuration file. Nothing here touches a network or a connection."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, conf, get_parsing_context
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_lag_provider import config_cache, deadline
from airflow_lag_provider.ended import ended_by_airflow, run_ended_by_airflow
from airflow_lag_provider.operators.lag import TRIGGERER_ENDS_TASKS, SSHLagOperator
from airflow_lag_provider.run import EXECUTION_MARGIN, MAX_ACTIVE_RUNS
from airflow_lag_provider.timetable import every_minute

if TYPE_CHECKING:
    from airflow_lag_provider.config import Configuration, Mirror, Topic

log = logging.getLogger(__name__)

# Airflow's limit for a DAG id.
_MAX_ID = 250


def mirrors_file(dag_file: str) -> Path:
    """Return the configuration file for a DAG file.

    :param dag_file: the DAG file's ``__file__``.
    :return: ``[lag] mirrors_file`` of the Airflow configuration, or ``include/mirrors.yaml``
        beside the folder of the DAG file.
    """
    configured = conf.get("lag", "mirrors_file", fallback="")
    return Path(configured or Path(dag_file).parent.parent / "include" / "mirrors.yaml")


def build_dags(path: Path | str) -> dict[str, DAG]:
    """Return the DAGs of all mirrors that are right, by DAG id.

    A mirror with a mistake has no DAGs here; :func:`check_mirrors` says what is wrong with it.

    :raises ConfigurationError: the file as a whole can't be used.
    """
    return _built(_load(path), problems=[])


def check_mirrors(path: Path | str) -> None:
    """Do nothing when the whole configuration is right.

    :raises ConfigurationError: with all mistakes, one a line.
    """
    configuration = _load(path)
    problems: list[str] = []
    _built(configuration, problems=problems)
    configuration.raise_for_mistakes(*problems)


def _built(configuration: Configuration, *, problems: list[str]) -> dict[str, DAG]:
    """Return the DAGs; a mirror that Airflow refuses is left out and added to the problems."""
    # A worker parses the whole file for the one DAG of its task.
    wanted: str | None = get_parsing_context().dag_id
    shared = _shared_arguments()
    dags: dict[str, DAG] = {}
    for mirror in configuration.mirrors:
        try:
            dags |= {
                one_id: _dag(mirror, topics, settings, configuration, shared)
                for one_id, topics, settings in _plan(mirror)
                if wanted in (None, one_id)
            }
        except Exception as error:
            # Whatever it is, it must not take the other mirrors out of scheduling.
            log.exception("Airflow refuses the mirror %s.", mirror.name)
            name = configuration.path.name
            problems.append(f"{name}: mirrors.{mirror.name}: {type(error).__name__}: {error}")
    return dags


def dag_id(mirror: str, topic: str | None = None) -> str:
    """Return the id of a topic's DAG, or of the mirror's when it has one for all topics.

    An id that is too long for Airflow keeps its head and ends in a hash of the whole.
    """
    whole = ".".join(part for part in ("consumer_lag", mirror, topic) if part)
    if len(whole) <= _MAX_ID:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:12]
    return f"{whole[: _MAX_ID - len(digest) - 1]}-{digest}"


def _load(path: Path | str) -> Configuration:
    return config_cache.load(path, callback_problem=deadline.callback_problem)


def _plan(mirror: Mirror) -> Iterator[tuple[str, Sequence[Topic], Mirror | Topic]]:
    """Yield for each DAG of a mirror its id, its topics, and what its own keys are taken from."""
    if mirror.layout != "topic":
        yield dag_id(mirror.name), mirror.topics, mirror
    else:
        for topic in mirror.topics:
            yield dag_id(mirror.name, topic.name), [topic], topic


def _shared_arguments() -> dict[str, Any]:
    """Return the arguments that are the same for all DAGs.

    Those that Airflow's configuration decides are taken from a DAG without them: for each DAG
    Airflow would read its configuration again, which takes as long as all that is done here.
    """
    # Airflow 2.11 keeps the expression, and with it the data intervals that it is set to.
    schedule = every_minute() if AIRFLOW_V_3_0_PLUS else "* * * * *"
    plain = DAG("plain", schedule=schedule, start_date=datetime(2024, 1, 1, tzinfo=UTC))
    return {
        "schedule": plain.timetable,
        "max_active_tasks": plain.max_active_tasks,
        "max_consecutive_failed_dag_runs": plain.max_consecutive_failed_dag_runs,
        "catchup": False,
        "max_active_runs": MAX_ACTIVE_RUNS,
    }


def _dag(
    mirror: Mirror,
    topics: Sequence[Topic],
    settings: Mirror | Topic,
    configuration: Configuration,
    shared: Mapping[str, Any],
) -> DAG:
    """Return one DAG with a task for each of the topics, or one for all in layout group.

    :param settings: what the DAG's own keys (paused, tags and so on) are taken from.
    :param shared: the arguments of all DAGs.
    """
    arguments: dict[str, Any] = {
        **shared,
        "dag_id": dag_id(mirror.name, topics[0].name if settings is topics[0] else None),
        "start_date": settings.start_date,
        "is_paused_upon_creation": settings.paused,
        "tags": sorted({"consumer-lag", mirror.name, *settings.tags}),
        "description": _description(mirror, topics),
        "doc_md": _documentation(mirror, topics, configuration),
        **deadline.dag_arguments(
            topics,
            mirror=mirror.name,
            callback=settings.sla_miss_callback,
            elasticsearch=configuration.elasticsearch,
        ),
    }
    if any(_takes_worker(one) for one in ([mirror] if mirror.layout == "group" else topics)):
        arguments["on_failure_callback"] = run_ended_by_airflow
    elif AIRFLOW_V_3_0_PLUS:
        # A run in the triggerer reads no DAG file, so a version gives it nothing, and with one the
        # DAG processor parses without end (apache/airflow#73432). A worker would ask the Git server
        # for the latest version in each run, and fail without it (docs/scale.md).
        arguments["disable_bundle_versioning"] = True
    if settings.access_control:
        arguments["access_control"] = {
            role: set(permissions) for role, permissions in settings.access_control.items()
        }
    dag = deadline.DeadlineDAG(**arguments) if "deadline" in arguments else DAG(**arguments)
    if mirror.layout == "group":
        names = [topic.name for topic in topics]
        _task(dag, "all_topics", mirror, mirror, configuration, topics=names)
    else:
        for topic in topics:
            _task(dag, topic.name, mirror, topic, configuration, topic=topic.name)
    return dag


def _takes_worker(settings: Mirror | Topic) -> bool:
    """Return whether a task takes a worker; a configuration holds no templates."""
    return not (settings.deferrable and TRIGGERER_ENDS_TASKS)


def _task(
    dag: DAG,
    task_id: str,
    mirror: Mirror,
    settings: Mirror | Topic,
    configuration: Configuration,
    **watched: Any,
) -> SSHLagOperator:
    """Return the task that takes the snapshots of one topic, or of all.

    :param settings: what the task's own keys (timeout, retries and so on) are taken from.
    :param watched: the operator's ``topic`` or ``topics``.
    """
    optional = {"owner": settings.owner, "pool": settings.pool}
    return SSHLagOperator(
        dag=dag,
        task_id=task_id,
        mirror=mirror.name,
        group=mirror.group,
        bootstrap_servers=list(mirror.bootstrap_servers),
        ssh_conn_id=mirror.ssh_conn_id,
        elasticsearch_conn_id=configuration.elasticsearch.conn_id,
        index=configuration.elasticsearch.index,
        tool=mirror.tool,
        command_config=mirror.command_config,
        jvm_opts=mirror.jvm_opts,
        class_data_archive=mirror.class_data_archive,
        timeout=settings.timeout,
        mirrors_file=str(configuration.path),
        deferrable=settings.deferrable,
        retries=settings.retries,
        retry_delay=settings.retry_delay,
        execution_timeout=settings.timeout + EXECUTION_MARGIN,
        on_failure_callback=ended_by_airflow,
        **watched,
        **{name: value for name, value in optional.items() if value is not None},
        **deadline.task_arguments(mirror.topics if "topics" in watched else [settings]),
    )


def _description(mirror: Mirror, topics: Sequence[Topic]) -> str:
    what = f"topic {topics[0].name}" if len(topics) == 1 else f"{len(topics)} topics"
    return f"Lag of MirrorMaker group {mirror.group} on {what}, each minute"


def _documentation(mirror: Mirror, topics: Sequence[Topic], configuration: Configuration) -> str:
    """Return the text of the DAG's page in the UI."""
    servers = ", ".join(f"`{server}`" for server in mirror.bootstrap_servers)
    names = "\n".join(f"- `{topic.name}`{_sla_words(topic)}" for topic in topics)
    return f"""\
### How far MirrorMaker is behind

Each minute this DAG asks the MirrorMaker host (SSH connection `{mirror.ssh_conn_id}`) for the
offsets of consumer group `{mirror.group}` on {servers} and writes one document for each topic to
the Elasticsearch index `{configuration.elasticsearch.index}` (connection
`{configuration.elasticsearch.conn_id}`):

{names}

**How to read a run.** Green: the document holds a snapshot. `lag.total` and `lag.max` stand in the
task's XCom and log; `p0`, `p1`, … are the lags of the partitions, in messages, and null means that
the group never committed there. Red: there is no snapshot of that minute; the document has
`event.outcome: failure`, and `error.message` says what is wrong and what to do.

**To stop watching**, pause this DAG. **To try it**: `airflow dags test` with its id.
"""


def _sla_words(topic: Topic) -> str:
    return "" if topic.sla is None else f", document due within {topic.sla.total_seconds():g} s"
