"""A thousand triggers on one event loop, as in the triggerer when all topics are due.

Real is all of this package but its two ends: the describe command's output is ready after half a
second, and a bulk request is serialised and answered after some milliseconds. Airflow's part is
what its triggerer does with each trigger on the same event loop, by its own functions.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import TaskSuccessEvent
from elasticsearch.serializer import NdjsonSerializer
from pyinstrument import Profiler

from airflow_lag_provider.dag_factory import build_dags
from airflow_lag_provider.documents import Document
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_history import Question
from airflow_lag_provider.ssh_sessions import DescribeOutput, Sessions
from airflow_lag_provider.triggers.lag import LagTrigger
from benchmarks import outputs, projects
from benchmarks.timing import Course, row, write_profile

_DESCRIBE_SECONDS = 0.5
_WRITE_SECONDS = 0.005
_BEAT_SECONDS = 0.01
_SERIALIZER = NdjsonSerializer()


def rows(course: Course, *, short: bool) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    found = []
    for size in (20,) if short else (100, 1_000):
        with tempfile.TemporaryDirectory() as folder:
            stage = _Stage(Path(folder), size)
            stage.measured()
            airflow, ours = stage.measured(), stage.measured(with_airflow=False)
            ours["what"] += ", without Airflow's part"
            found += [airflow, ours]
            if course.profile:
                stage.profiled(course.profile / f"triggers, {size}")
    return found


class _Stage:
    """The DAGs of a configuration and what the triggerer gets of them."""

    due: ClassVar[datetime] = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)

    def __init__(self, folder: Path, size: int) -> None:
        dags = build_dags(projects.write(folder, topics=size))
        self.size = size
        self.output = outputs.output("3.9", size * outputs.PARTITIONS)
        self.written = 0
        self.loads = [
            # As text, so that the garbage collector has no more to search than it would have.
            pickle.dumps(
                (DagSerialization.to_dict(dag), dag.task_ids[0], dag.tasks[0].start_trigger_args)
            )
            for dag in dags.values()
        ]

    def measured(self, *, with_airflow: bool = True) -> dict[str, Any]:
        """Run all triggers once and return their row."""
        self.written = 0
        prepared = None if with_airflow else [self._trigger(load) for load in self.loads]
        wall, cpu = time.perf_counter(), time.process_time()
        with _garbage_collections() as garbage:
            hold = self._run(prepared)
        cpu = time.process_time() - cpu
        wall = time.perf_counter() - wall
        if self.written != self.size:
            raise ValueError(f"{self.written} documents of {self.size}")
        words = f"{1e3 * hold:.0f} ({1e3 * max(garbage, default=0.0):.0f})"
        return row("trigger runs", self.size, "trigger", wall=wall, cpu=cpu, hold=words)

    def profiled(self, file: Path) -> None:
        """Write a profile of a run."""
        profiler = Profiler(interval=0.0005, async_mode="disabled")
        with profiler:
            self._run(None)
        write_profile(profiler, file)

    def _run(self, prepared: Sequence[LagTrigger] | None) -> float:
        with (
            patch.object(Sessions, "run", self._describe),
            patch.object(LagElasticsearchHook, "session", self._session),
        ):
            return asyncio.run(self._all(prepared))

    async def _all(self, prepared: Sequence[LagTrigger] | None) -> float:
        """Run the triggers; return how late a task that wakes up each 10 ms was at most."""
        heart = asyncio.create_task(_beat())
        await asyncio.sleep(0)
        tasks = []
        for one in prepared or self.loads:
            # So Airflow starts them, one after the other.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            work = _events(one) if isinstance(one, LagTrigger) else self._with_airflow(one)
            tasks.append(asyncio.create_task(work))
        for events in await asyncio.gather(*tasks):
            if [type(event) for event in events] != [TaskSuccessEvent]:
                raise ValueError(f"a trigger ended with {events}")
        heart.cancel()
        return await heart

    async def _with_airflow(self, load: bytes) -> list[Any]:
        return await _events(self._trigger(load))

    def _trigger(self, load: bytes) -> LagTrigger:
        """Return a trigger, made as Airflow's triggerer makes it."""
        data, task_id, arguments = pickle.loads(load)  # made above
        dag_id = data["dag"]["dag_id"]
        run = {"dag_id": dag_id, "run_id": "scheduled__2026-11-22T13:35:00+00:00"}
        ti = TaskInstanceDTO(
            id=uuid.uuid4(), task_id=task_id, try_number=1, dag_version_id=uuid.uuid4(),
            pool_slots=1, queue="default", priority_weight=1, **run,
        )  # fmt: skip
        instants = dict.fromkeys(
            ("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date"),
            self.due,
        )
        dag_run = run | instants | {
            "run_type": "scheduled", "state": "running", "end_date": None,
            "consumed_asset_events": [], "partition_key": None,
        }  # fmt: skip
        runtime = TriggerRunner.create_runtime_ti(ti, data, dag_run)
        trigger = LagTrigger(**arguments.trigger_kwargs)
        context = runtime.get_template_context()
        trigger.task_instance = runtime  # type: ignore[assignment]  # so does Airflow
        trigger.render_template_fields(context=context)
        return trigger

    async def _describe(self, *_: Any, **__: Any) -> DescribeOutput:
        await asyncio.sleep(_DESCRIBE_SECONDS)
        now = datetime.now(UTC)
        return DescribeOutput(self.output, "", 0, now, now)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        yield SimpleNamespace(write=self._write, latest=self._latest)

    async def _write(self, *documents: Document) -> tuple[None, ...]:
        _SERIALIZER.dumps([line for one in documents for line in ({"_id": one.id}, one.source)])
        await asyncio.sleep(_WRITE_SECONDS)
        self.written += len(documents)
        return (None,) * len(documents)

    async def _latest(self, *questions: Question) -> tuple[None, ...]:
        await asyncio.sleep(_WRITE_SECONDS)
        return (None,) * len(questions)


@contextmanager
def _garbage_collections() -> Iterator[list[float]]:
    """Note how long each garbage collection takes, in seconds."""
    spans: list[float] = []
    started: list[float] = []

    def note(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            started.append(time.perf_counter())
        elif started:
            spans.append(time.perf_counter() - started.pop())

    gc.callbacks.append(note)
    try:
        yield spans
    finally:
        gc.callbacks.remove(note)


async def _events(trigger: LagTrigger) -> list[Any]:
    return [event async for event in trigger.run()]


async def _beat() -> float:
    """Wake up again and again until cancelled; return how late that was at most, in seconds."""
    late, loop = 0.0, asyncio.get_running_loop()
    try:
        while True:
            due = loop.time() + _BEAT_SECONDS
            await asyncio.sleep(_BEAT_SECONDS)
            late = max(late, loop.time() - due)
    except asyncio.CancelledError:
        return late
