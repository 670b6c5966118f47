"""The operator: Airflow's door to ``observe`` on a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_lag_provider.command import DEFAULT_JVM_OPTS, DEFAULT_TOOL
from airflow_lag_provider.errors import LagError
from airflow_lag_provider.run import Run
from airflow_lag_provider.watch import Watch

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_lag_provider.observe import StoredSnapshot


class SSHLagOperator(BaseOperator):
    """Take one snapshot of a MirrorMaker topic's lag and store it in Elasticsearch.

    Runs ``kafka-consumer-groups.sh --describe`` on the MirrorMaker host over SSH and writes one
    document to the index: the snapshot, or the reason why there is none. The result (XCom) is a
    summary: topic, command, ``lag.total``, ``lag.max``, document id and index.

    A failure that a retry can't help ends the task without its retries.

    :param topic: the topic to watch. (templated)
    :param topics: several topics in one task, instead of ``topic``. (templated)
    :param group: consumer group of MirrorMaker. (templated)
    :param bootstrap_servers: ``host:port`` of the source cluster's brokers, a list or one string
        with commas. (templated)
    :param ssh_conn_id: SSH connection of the MirrorMaker host. (templated)
    :param elasticsearch_conn_id: connection of Elasticsearch. (templated)
    :param index: index of the documents; may hold ``%Y``, ``%m``, ``%d`` and ``%H`` of the
        scheduled instant. (templated)
    :param tool: path of kafka-consumer-groups.sh on the host. (templated)
    :param command_config: client properties file on the host. (templated)
    :param mirror: the mirror's name in the documents; the group's id when not given. (templated)
    :param timeout: seconds for the describe, connecting included.
    :param jvm_opts: options of the tool's JVM. (templated)
    :param configured_topics: all topics that are watched in this group, so that documents can
        name the others in ``unconfigured_topics``.
    """

    template_fields: Sequence[str] = (
        "topic",
        "topics",
        "group",
        "bootstrap_servers",
        "ssh_conn_id",
        "elasticsearch_conn_id",
        "index",
        "tool",
        "command_config",
        "mirror",
        "jvm_opts",
    )
    ui_color = "#d9ead3"

    def __init__(
        self,
        *,
        topic: str | None = None,
        topics: Sequence[str] | None = None,
        group: str,
        bootstrap_servers: str | Sequence[str],
        ssh_conn_id: str = "ssh_default",
        elasticsearch_conn_id: str = "elasticsearch_default",
        index: str = "consumer_lag",
        tool: str = DEFAULT_TOOL,
        command_config: str | None = None,
        mirror: str | None = None,
        timeout: float | timedelta = 25.0,
        jvm_opts: str = DEFAULT_JVM_OPTS,
        configured_topics: Collection[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (topic is None) == (topics is None):
            raise ValueError("Give SSHLagOperator either `topic` or `topics`.")
        self.topic = topic
        self.topics = topics
        self.group = group
        self.bootstrap_servers = bootstrap_servers
        self.ssh_conn_id = ssh_conn_id
        self.elasticsearch_conn_id = elasticsearch_conn_id
        self.index = index
        self.tool = tool
        self.command_config = command_config
        self.mirror = mirror
        self.timeout = timeout
        self.jvm_opts = jvm_opts
        self.configured_topics = configured_topics

    def watch(self) -> Watch:
        """Return what this task watches, from its fields as they are now."""
        timeout = self.timeout
        return Watch(
            mirror=self.group if self.mirror is None else self.mirror,
            topics=_words([self.topic or ""] if self.topics is None else self.topics),
            group=self.group,
            bootstrap_servers=_words(self.bootstrap_servers),
            ssh_conn_id=self.ssh_conn_id,
            elasticsearch_conn_id=self.elasticsearch_conn_id,
            index=self.index,
            timeout=timeout.total_seconds() if isinstance(timeout, timedelta) else timeout,
            tool=self.tool,
            command_config=self.command_config,
            jvm_opts=self.jvm_opts,
            configured_topics=(
                None if self.configured_topics is None else frozenset(self.configured_topics)
            ),
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Take the snapshot, write the document and return a summary of it.

        :raises LagError: an error that a retry may help; any other ends the task without retries.
        """
        # Here, because asyncssh and elasticsearch must not be imported with the DAG file.
        from airflow_lag_provider.observe import observe

        watch = self.watch()
        try:
            stored = asyncio.run(observe(watch, run_of(context)))
        except LagError as error:
            if error.retriable:
                raise
            notes = " ".join(getattr(error, "__notes__", ()))
            raise AirflowFailException(f"{type(error).__name__}: {error} {notes}") from error
        for one in stored:
            self.log.info("%s", _sentence(one))
        return _summary(watch, stored)


def _words(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the parts of a list, or of a text with commas, as templates make it."""
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(str(part).strip() for part in parts)


def run_of(context: Context) -> Run:
    """Return the run that a task's context describes, the same on Airflow 2 and 3."""
    dag_run = context["dag_run"]
    ti = context["ti"]
    # Airflow 3 has run_after for every run; before, the end of the interval is when it was due.
    scheduled_at: datetime | None = context.get("data_interval_end") or getattr(
        dag_run, "run_after", None
    )
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


def _sentence(stored: StoredSnapshot) -> str:
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


def _summary(watch: Watch, stored: Sequence[StoredSnapshot]) -> dict[str, Any]:
    """Return what a task hands on (XCom): figures and ids, never the output."""
    topics = [
        {
            "topic": one.snapshot.topic,
            "command": watch.command,
            "lag": {"total": one.snapshot.lag_total, "max": one.snapshot.lag_max},
            "index": one.index,
            "document_id": one.document_id,
        }
        for one in stored
    ]
    if len(watch.topics) == 1:
        return topics[0]
    return {"command": watch.command, "stored": len(topics)}
