"""The trigger: Airflow's door to ``observe`` in the triggerer, where no worker is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

if TYPE_CHECKING:
    from airflow_lag_provider.observe import Observation
    from airflow_lag_provider.watch import Watch

_PIPELINE = "airflow_lag_provider.observe"
# Not `in sys.modules`: there is also what a thread has only begun to import.
_imported: set[str] = set()


class LagTrigger(BaseTrigger):
    """Take the snapshot of ``SSHLagOperator`` in the triggerer and end its task there.

    A failure ends the task too. Airflow 3 then tries it again as its retries say, whatever the
    failure: one more describe for the whole group costs less than a worker for each topic, which
    alone could end a task without its retries. Airflow 2.11 would not try again at all, so there
    a failure that a retry may help is handed to a worker, which fails with it.

    :param watch: what to watch, see ``Watch.to_json``; without templates.
    """

    def __init__(self, *, watch: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.watch = watch
        self._dag_run: Any = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the argument."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"watch": dict(self.watch)}

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Keep the run that the context is of: Airflow 3 calls this before :meth:`run`.

        There is nothing to render, and no environment to make for it on the event loop.
        """
        self._dag_run = context.get("dag_run")

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event that ends the task, or sends it on to a worker."""
        # Airflow 2 has it on the task instance.
        dag_run = self._dag_run or getattr(self.task_instance, "dag_run", None)
        if dag_run is None:
            # Airflow tells nothing of the run of a task that its DAG no longer has in this form:
            # the operator does the work.
            yield _sent_on({})
            return
        try:
            if _PIPELINE not in _imported:
                # The first import of the clients takes a second.
                await asyncio.to_thread(import_module, _PIPELINE)
                _imported.add(_PIPELINE)
            from airflow_lag_provider.doors import run_of
            from airflow_lag_provider.observe import observe
            from airflow_lag_provider.watch import Watch

            watch = Watch.from_json(self.watch)
            run = run_of(dag_run, self.task_instance, interval_end=dag_run.data_interval_end)
        except Exception:
            self.log.exception("The triggerer can't prepare this run; a worker gets it.")
            yield _sent_on({})
            return
        yield self._event(watch, await observe(watch, run))

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


def _sent_on(payload: dict[str, Any]) -> TriggerEvent:
    """Return the event that lets the task go on in ``SSHLagOperator.execute_complete``."""
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's
