"""DAGs that do nothing in the triggerer: what is left of the cost is Airflow's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TaskSuccessEvent, TriggerEvent

# Airflow reads only files that have its name in them.
_DAG_FILE = """
# Airflow's own cost.
from benchmarks.floor import dags

globals().update(dags({count}))
"""


class NothingTrigger(BaseTrigger):
    """Ends its task at once."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and no arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the event that ends the task."""
        yield TaskSuccessEvent()


class NothingOperator(BaseOperator):
    """A task that the triggerer ends at once."""

    start_from_trigger = True
    start_trigger_args = StartTriggerArgs(
        trigger_cls=f"{__name__}.{NothingTrigger.__qualname__}", trigger_kwargs={}, next_method="go"
    )


def dags(count: int) -> dict[str, DAG]:
    """Return so many DAGs of one such task, on a one-minute schedule."""
    made = {}
    for number in range(count):
        name = f"floor-{number:04}"
        made[name] = DAG(
            name,
            schedule="* * * * *",
            start_date=datetime(2024, 1, 1),
            catchup=False,
            max_active_runs=3,
            is_paused_upon_creation=False,
        )
        NothingOperator(task_id="nothing", dag=made[name])
    return made


def write_project(folder: Path, *, count: int) -> Path:
    """Write a DAG project of such DAGs; return its folder of DAGs."""
    folder.mkdir(parents=True)
    (folder / "floor.py").write_text(_DAG_FILE.format(count=count), encoding="utf-8")
    return folder
