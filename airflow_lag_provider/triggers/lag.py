"""The trigger: Airflow's door to ``observe`` in the triggerer, where no worker is needed."""

from __future__ import annotations

import asyncio
import gc
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
                _spare_the_event_loop()
            from airflow_lag_provider.doors import run_of
            from airflow_lag_provider.observe import observe
            from airflow_lag_provider.watch import Watch

            watch = Watch.from_json(self.watch)
            run = run_of(dag_run, self.task_instance, interval_end=dag_run.data_interval_end)
        except Exception as error:
            from airflow_lag_provider.task_log import told

            text = "The triggerer can't prepare this run; a worker gets it."
            await told(self.log.error, text, exc_info=error)
            yield _sent_on({})
            return
        yield await self._event(watch, await observe(watch, run))

    async def _event(self, watch: Watch, seen: Observation) -> TriggerEvent:
        from airflow_lag_provider.doors import failure, sentences, summary
        from airflow_lag_provider.task_log import told

        if seen.stored:
            await told(self.log.info, "%s", sentences(seen))
        result = summary(watch, seen)
        xcoms = None if result is None else {"return_value": result}
        if seen.error is None:
            return TaskSuccessEvent(xcoms=xcoms)
        await told(self.log.error, "%s Describe command: %s", failure(seen.error), watch.command)
        if seen.error.retriable and not AIRFLOW_V_3_0_PLUS:
            return _sent_on({"error": failure(seen.error), "result": result})
        return TaskFailedEvent(xcoms=xcoms)


def _spare_the_event_loop() -> None:
    """Exempt what the process has in memory from Python's search for garbage, once.

    Airflow's modules and the clients' stay for good, and to search them all takes a quarter of a
    second, in which the event loop stands still: with hundreds of topics that is every minute.
    """
    if _PIPELINE not in _imported:
        _imported.add(_PIPELINE)
        gc.freeze()


def _sent_on(payload: dict[str, Any]) -> TriggerEvent:
    """Return the event that lets the task go on in ``SSHLagOperator.execute_complete``."""
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's
