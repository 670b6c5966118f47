"""The operator: Airflow's door to ``observe`` on a worker."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS
from airflow.triggers.base import StartTriggerArgs

from airflow_lag_provider.command import DEFAULT_JVM_OPTS, DEFAULT_TOOL
from airflow_lag_provider.doors import command_of, failure, run_of, sentences, summary
from airflow_lag_provider.ended import RecordedFailure
from airflow_lag_provider.watch import Watch

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

TRIGGERER_ENDS_TASKS = AIRFLOW_V_3_3_PLUS or not AIRFLOW_V_3_0_PLUS
"""Whether this version of Airflow can leave a task to the triggerer from start to end."""

_TEMPLATE = re.compile(r"\{[{%#]")


class SSHLagOperator(BaseOperator):
    """Take one snapshot of a MirrorMaker topic's lag and store it in Elasticsearch.

    Runs ``kafka-consumer-groups.sh --describe`` on the MirrorMaker host over SSH and writes one
    document to the index: the snapshot, or the reason why there is none. The result (XCom) is a
    summary: topic, command, ``lag.total``, ``lag.max``, document id and index; with ``topics``, how
    many snapshots were stored and which topics failed.

    On a worker a failure that a retry can't help ends the task without its retries.

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
    :param class_data_archive: directory on the host for a class data archive, with which the
        tool's JVM starts faster; ``None``: nothing is written on the host. (templated)
    :param mirrors_file: configuration file that names the mirror, so that documents can list the
        topics of its group that nobody watches in ``unconfigured_topics``. A path, because every
        topic's task would otherwise carry the names of all topics in the serialized DAG.
    :param deferrable: let the triggerer do it from start to end, without a worker, where the
        Airflow version can. Default: ``[operators] default_deferrable``.
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
        "class_data_archive",
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
        class_data_archive: str | None = None,
        mirrors_file: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
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
        self.class_data_archive = class_data_archive
        self.mirrors_file = mirrors_file
        self.deferrable = deferrable
        if deferrable and self._fits_the_trigger():
            self.start_from_trigger = True
            self.start_trigger_args = self._start_trigger_args()

    def _fits_the_trigger(self) -> bool:
        """Return whether the triggerer can do this task from its start.

        Airflow 2.11 renders no templates there, and 3.3 does so without the DAG's macros and with
        nothing for a name that isn't known; 3.1 and 3.2 don't tell a trigger of its run.
        """
        values = [getattr(self, name) for name in self.template_fields]
        lists = [list(one) if isinstance(one, list | tuple) else [one] for one in values]
        texts = [text for one in lists for text in one if text is not None]
        if not all(isinstance(text, str) for text in texts):
            return False
        return not any(map(_TEMPLATE.search, texts)) and TRIGGERER_ENDS_TASKS

    def _start_trigger_args(self) -> StartTriggerArgs:
        # In one argument, because Airflow would render each that is also a field with templates.
        return StartTriggerArgs(
            trigger_cls="airflow_lag_provider.triggers.lag.LagTrigger",
            trigger_kwargs={"watch": self.watch().to_json()},
            next_method=self.execute_complete.__name__,
        )

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
            class_data_archive=self.class_data_archive,
            mirrors_file=self.mirrors_file,
            together=self.topics is not None,
        )

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Take the snapshot, write the document and return a summary of it.

        :raises LagError: an error, where a retry may help any topic or its document; any other
            ends the task without retries.
        """
        # Here, because asyncssh and elasticsearch must not be imported with the DAG file.
        from airflow_lag_provider.observe import observe_alone

        watch = self.watch()
        run = run_of(
            context["dag_run"], context["ti"], interval_end=context.get("data_interval_end")
        )
        self.log.info("Describe command: %s", command_of(watch))
        seen = asyncio.run(observe_alone(watch, run))
        if seen.stored:
            self.log.info("%s", sentences(seen))
        result = summary(watch, seen)
        if seen.error is None:
            return result
        if result is not None:
            # What a task that raises returns is lost, and of many topics most may be stored.
            context["ti"].xcom_push(key="return_value", value=result)
        if seen.retry_helps:
            raise seen.error
        raise AirflowFailException(failure(seen.error)) from seen.error

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on, on a worker, with a task that the triggerer could not end.

        :param event: with ``error``: what to fail with, so that Airflow's retries take over; and
            ``result``, the summary of what was stored.
        :raises RecordedFailure: the failure that the triggerer met.
        """
        if "error" in event:
            if event.get("result") is not None:
                context["ti"].xcom_push(key="return_value", value=event["result"])
            raise RecordedFailure(event["error"])
        return self.execute(context)


def _words(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the parts of a list, or of a text with commas, as templates make it."""
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(str(part).strip() for part in parts)
