"""The trigger: Airflow's door to ``observe`` in the triggerer, where no worker is needed."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from airflow_lag_provider.task_log import told

if TYPE_CHECKING:
    from airflow_lag_provider.observation import Observation
    from airflow_lag_provider.run import Run
    from airflow_lag_provider.watch import Watch

_PIPELINE = "airflow_lag_provider.observe"
_exempted: set[str] = set()
# Not `in sys.modules`: there is also what a thread has only begun to import.
_imported: set[str] = set()

# From the first run of a process to a moment at which it has little to do, seconds.
_CALM_SECONDS = 45.0
# How long a failure is remembered, seconds: longer than the tries of its run take.
_REMEMBERED_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class _Final:
    """A failure that no other try of its run can help, nor its documents.

    :param try_number: the try that met it.
    :param words: what went wrong.
    :param xcoms: what the task hands on.
    :param known_until: on the monotonic clock, seconds.
    """

    try_number: int
    words: str
    xcoms: dict[str, Any] | None
    known_until: float


_finals: dict[tuple[str, str, str, datetime], _Final] = {}
"""By DAG, task, run and the run's start; here, because each try has a trigger of its own."""


class LagTrigger(BaseTrigger):
    """Take the snapshot of ``SSHLagOperator`` in the triggerer and end its task there.

    A failure ends the task too. Airflow 3 then tries it again as its retries say, whatever the
    failure: only a worker could end a task without its retries, and a worker for each topic of a
    group that isn't there is too much. So where no retry can help, the further tries end at once
    with the failure of the first, without a describe and without touching its document. That is
    remembered in this process alone: another triggerer describes once more, which does no harm.
    A task that somebody clears is tried anew.
    A failure whose document could not be written is tried again for the document's sake, unless
    that was refused for a reason that stays.

    Airflow 2.11 would not try again at all, so there a failure that a retry may help is handed to
    a worker, which fails with it.

    :param watch: what to watch, see ``Watch.to_json``; without templates.
    """

    def __init__(self, *, watch: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.watch = watch
        self._dag_run: Any = None
        self._retries = 0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and the argument."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"watch": dict(self.watch)}

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Keep the run and the retries of the context: Airflow 3 calls this before :meth:`run`.

        There is nothing to render, and no environment to make for it on the event loop.
        """
        self._dag_run = context.get("dag_run")
        self._retries = getattr(context.get("task"), "retries", 0)

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
            await _import_pipeline()
            from airflow_lag_provider.doors import run_of
            from airflow_lag_provider.observe import observe
            from airflow_lag_provider.watch import Watch

            watch = Watch.from_json(self.watch)
            run = run_of(dag_run, self.task_instance, interval_end=dag_run.data_interval_end)
        except Exception as error:
            text = "The triggerer can't prepare this run; a worker gets it."
            await told(self.log.error, text, exc_info=error)
            yield _sent_on({})
            return
        final = _finals.get(_key(run))
        # A task that somebody cleared counts its tries on, beyond its retries.
        if final and final.try_number < run.try_number <= self._retries + 1:
            text = "Nothing was tried, since no retry helps what try %d met: %s"
            await told(self.log.error, text, final.try_number, final.words)
            yield TaskFailedEvent(xcoms=final.xcoms)
            return
        yield await self._event(watch, run, await observe(watch, run))

    async def on_kill(self) -> None:
        """Leave a document for a task that a person ends or clears meanwhile (Airflow 3.3)."""
        if self._dag_run is None:
            return
        await _import_pipeline()
        from airflow_lag_provider.doors import run_of
        from airflow_lag_provider.ended import leave_documents
        from airflow_lag_provider.watch import Watch

        dag_run = self._dag_run
        run = run_of(dag_run, self.task_instance, interval_end=dag_run.data_interval_end)
        # Airflow says the same when it gives the trigger to another triggerer.
        reason = "its trigger was cancelled, as when somebody marks or clears the task or its run"
        await leave_documents(Watch.from_json(self.watch), run, reason=reason)

    async def _event(self, watch: Watch, run: Run, seen: Observation) -> TriggerEvent:
        from airflow_lag_provider.doors import command_of, failure, sentences, summary

        if seen.stored:
            await told(self.log.info, "%s", sentences(seen))
        result = summary(watch, seen)
        xcoms = None if result is None else {"return_value": result}
        if seen.error is None:
            return TaskSuccessEvent(xcoms=xcoms)
        words = failure(seen.error)
        await told(self.log.error, "%s Describe command: %s", words, command_of(watch))
        if seen.retry_helps and not AIRFLOW_V_3_0_PLUS:
            return _sent_on({"error": words, "result": result})
        if AIRFLOW_V_3_0_PLUS and not seen.retry_helps:
            _remember(run, words, xcoms)
        return TaskFailedEvent(xcoms=xcoms)


async def _import_pipeline() -> None:
    if _PIPELINE not in _exempted:
        # With the first of the runs alone: of the others there is more, which would stay for good.
        _exempted.add(_PIPELINE)
        # Airflow's modules, which each search would go through while more is imported.
        gc.freeze()
        asyncio.get_running_loop().call_later(_CALM_SECONDS, _spare_the_event_loop)
    if _PIPELINE not in _imported:
        # The first import of the clients takes a second.
        await asyncio.to_thread(_import_all)
        _imported.add(_PIPELINE)


def _import_all() -> None:
    for name in (_PIPELINE, "airflow_lag_provider.doors", "airflow_lag_provider.ended"):
        import_module(name)


def _spare_the_event_loop() -> None:
    """Exempt what the process has in memory from Python's search for garbage.

    Airflow's modules and the clients' stay for good, and to search them all takes a quarter of a
    second, in which the event loop stands still: with hundreds of topics that is every minute.
    Airflow's were exempted without such a search when the first run came. Now its minute's runs are
    over, and what is left of them goes.
    """
    gc.collect()
    gc.freeze()


def _key(run: Run) -> tuple[str, str, str, datetime]:
    return run.dag_id, run.task_id, run.run_id, run.started_at


def _remember(run: Run, words: str, xcoms: dict[str, Any] | None) -> None:
    now = time.monotonic()
    for key in [key for key, final in _finals.items() if final.known_until < now]:
        del _finals[key]
    _finals[_key(run)] = _Final(run.try_number, words, xcoms, now + _REMEMBERED_SECONDS)


def _sent_on(payload: dict[str, Any]) -> TriggerEvent:
    """Return the event that lets the task go on in ``SSHLagOperator.execute_complete``."""
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's
