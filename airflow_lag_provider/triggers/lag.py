"""The trigger: Airflow's door to ``observe`` in the triggerer, where no worker is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

if TYPE_CHECKING:
    from airflow_lag_provider.observe import Observation
    from airflow_lag_provider.run import Run
    from airflow_lag_provider.watch import Watch


class LagTrigger(BaseTrigger):
    """Take the snapshot of ``SSHLagOperator`` in the triggerer and end its task there.

    A failure ends the task too. Airflow 3 then tries it again as its retries say, whatever the
    failure: one more describe for the whole group costs less than a worker for each topic, which
    alone could end a task without its retries. Airflow 2.11 would not try again at all, so there
    a failure that a retry may help is handed to a worker, which fails with it.

    The arguments are the operator's, as plain JSON values without templates.

    :param timeout: seconds.
    """

    def __init__(
        self,
        *,
        topic: str | None,
        topics: Sequence[str] | None,
        group: str,
        bootstrap_servers: str | Sequence[str],
        ssh_conn_id: str,
        elasticsearch_conn_id: str,
        index: str,
        tool: str,
        command_config: str | None,
        mirror: str | None,
        timeout: float,
        jvm_opts: str,
        class_data_archive: str | None,
        mirrors_file: str | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
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

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "topic": self.topic,
                "topics": self.topics,
                "group": self.group,
                "bootstrap_servers": self.bootstrap_servers,
                "ssh_conn_id": self.ssh_conn_id,
                "elasticsearch_conn_id": self.elasticsearch_conn_id,
                "index": self.index,
                "tool": self.tool,
                "command_config": self.command_config,
                "mirror": self.mirror,
                "timeout": self.timeout,
                "jvm_opts": self.jvm_opts,
                "class_data_archive": self.class_data_archive,
                "mirrors_file": self.mirrors_file,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event that ends the task, or sends it on to a worker."""
        dag_run = _dag_run(self.task_instance)
        if dag_run is None:
            # Airflow tells nothing of the run of a task that its DAG no longer has in this form:
            # the operator does the work.
            yield _sent_on({})
            return
        try:
            # The first import of the clients takes a second, and the configuration is a file.
            watch, run = await asyncio.to_thread(self._prepared, dag_run)
        except Exception:
            self.log.exception("The triggerer can't prepare this run; a worker gets it.")
            yield _sent_on({})
            return
        from airflow_lag_provider.observe import observe

        yield self._event(watch, await observe(watch, run))

    def _prepared(self, dag_run: Any) -> tuple[Watch, Run]:
        # For its import alone, so that the event loop finds it done.
        import airflow_lag_provider.observe  # noqa: F401
        from airflow_lag_provider.doors import run_of, watch_of

        run = run_of(dag_run, self.task_instance, interval_end=dag_run.data_interval_end)
        return watch_of(self), run

    def _event(self, watch: Watch, seen: Observation) -> TriggerEvent:
        from airflow_lag_provider.doors import failure, sentence, summary

        for one in seen.stored:
            self.log.info("%s", sentence(one))
        result = summary(watch, seen)
        xcoms = None if result is None else {"return_value": result}
        if seen.error is None:
            return TaskSuccessEvent(xcoms=xcoms)
        self.log.error("%s", failure(seen.error))
        if seen.error.retriable and not AIRFLOW_V_3_0_PLUS:
            return _sent_on({"error": failure(seen.error), "result": result})
        return TaskFailedEvent(xcoms=xcoms)


def _dag_run(ti: Any) -> Any:
    """Return the DAG run of a trigger's task instance, ``None`` where Airflow gives none."""
    if hasattr(ti, "get_template_context") and AIRFLOW_V_3_0_PLUS:
        return ti.get_template_context().get("dag_run")
    return getattr(ti, "dag_run", None)


def _sent_on(payload: dict[str, Any]) -> TriggerEvent:
    """Return the event that lets the task go on in ``SSHLagOperator.execute_complete``."""
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's
