"""LagTrigger: how it reads its run and how it ends its task, on both versions of Airflow."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from airflow_lag_provider import observe as pipeline
from airflow_lag_provider.collect import Collected
from airflow_lag_provider.describe import parse
from airflow_lag_provider.documents import Document
from airflow_lag_provider.doors import run_of
from airflow_lag_provider.errors import (
    BrokerUnreachable,
    ElasticsearchUnreachable,
    GroupNotFound,
    LagError,
)
from airflow_lag_provider.hooks import elasticsearch_spool
from airflow_lag_provider.observation import Observation, StoredSnapshot
from airflow_lag_provider.operators.lag import SSHLagOperator
from airflow_lag_provider.run import ENDED_VERSION, Run
from airflow_lag_provider.snapshot import PartitionLag, TopicSnapshot
from airflow_lag_provider.triggers import lag
from airflow_lag_provider.triggers.lag import LagTrigger

DUE = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)
SNAPSHOT = TopicSnapshot(
    "oasis", "g", "orders", DUE, "active", (PartitionLag("orders", 0, 90, 100, 10),)
)
TASK = SSHLagOperator(
    task_id="orders",
    topic="orders",
    group="g",
    bootstrap_servers="b-1:9092",
    deferrable=True,
    retries=1,
)
DAG_RUN = SimpleNamespace(
    run_id="scheduled__13:35",
    run_type="scheduled",
    start_date=DUE + timedelta(seconds=1),
    run_after=DUE,
    data_interval_end=DUE,
)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What observe is called with (``run``) and what it returns (``outcome``)."""
    seen: dict[str, Any] = {"outcome": Observation((StoredSnapshot(SNAPSHOT, "id", "index"),))}

    async def observe(_: Any, run: Run) -> Observation:
        seen["run"] = run
        return seen["outcome"]  # type: ignore[no-any-return]

    monkeypatch.setattr(pipeline, "observe", observe)
    return seen


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    lag._finals.clear()


def trigger_of(dag_run: Any, *, try_number: int) -> LagTrigger:
    trigger = LagTrigger(**TASK.start_trigger_args.trigger_kwargs)
    ti = SimpleNamespace(dag_id="dag", task_id="orders", try_number=try_number, dag_run=dag_run)
    if AIRFLOW_V_3_0_PLUS:
        del ti.dag_run
        trigger.render_template_fields({"dag_run": dag_run, "task": TASK})
    # Not by its setter, which wants a whole task.
    trigger.__dict__["_task_instance" if AIRFLOW_V_3_0_PLUS else "task_instance"] = ti
    return trigger


def events(dag_run: Any = DAG_RUN, *, try_number: int = 2) -> list[TriggerEvent]:
    trigger = trigger_of(dag_run, try_number=try_number)

    async def collected() -> list[TriggerEvent]:
        return [event async for event in trigger.run()]

    return asyncio.run(collected())


def test_a_snapshot_ends_the_task_with_the_workers_summary(
    seen: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The XCom of the trigger is what the operator returns on a worker, and so is the run."""
    (event,) = events()
    assert isinstance(event, TaskSuccessEvent)
    triggers_run = seen["run"]
    ti = SimpleNamespace(dag_id="dag", task_id="orders", try_number=2)
    context: Any = {"dag_run": DAG_RUN, "ti": ti, "data_interval_end": DUE}
    assert event.xcoms == {"return_value": TASK.execute(context)}
    assert seen["run"] == triggers_run
    assert triggers_run.try_number == 2


def test_a_run_without_an_interval_was_due_when_it_could_run(seen: dict[str, Any]) -> None:
    """As on a worker, run_after stands in."""
    events(SimpleNamespace(**{**vars(DAG_RUN), "data_interval_end": None}))
    assert seen["run"].scheduled_at == DUE


@pytest.mark.parametrize(
    ("errors", "on_a_worker_in_2"),
    [
        ([BrokerUnreachable("No.")], True),
        ([GroupNotFound("No.")], False),
        ([GroupNotFound("No."), ElasticsearchUnreachable("No.")], True),
    ],
)
def test_a_failure_ends_the_task_so_that_retries_still_work(
    seen: dict[str, Any], errors: list[LagError], on_a_worker_in_2: bool
) -> None:
    """On 3 the triggerer fails it; on 2.11 what a retry may help is failed by a worker."""
    seen["outcome"] = Observation((), ("orders",), errors[0], tuple(errors))
    (event,) = events()
    if AIRFLOW_V_3_0_PLUS or not on_a_worker_in_2:
        assert isinstance(event, TaskFailedEvent)
        assert event.xcoms is None
    else:
        assert type(errors[0]).__name__ in event.payload["error"]
        assert type(event) is TriggerEvent


def test_the_log_of_a_failure_has_the_command(
    seen: dict[str, Any], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """What went wrong is tried again by hand on the host, with the command of the task's log."""
    seen["outcome"] = Observation((), ("orders",), GroupNotFound("There is no group g."))
    with caplog.at_level(logging.INFO):
        events()
    # Airflow 2 logs by the standard library, Airflow 3 doesn't.
    log = caplog.text + capsys.readouterr().out
    assert "There is no group g." in log
    assert TASK.watch().command in log


def test_an_argument_that_is_no_text_is_named_and_leaves_a_document(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line with the command, which can't be made, doesn't hide what is wrong."""
    written: list[Document] = []

    async def store(*documents: Document, **_: Any) -> Any:
        written.extend(documents)
        return (None,) * len(documents)

    monkeypatch.setattr(pipeline, "store", store)
    monkeypatch.setitem(TASK.start_trigger_args.trigger_kwargs["watch"], "jvm_opts", None)
    (event,) = events()
    assert isinstance(event, TaskFailedEvent)
    assert [one.source["error"]["type"] for one in written] == ["InvalidRequest"]
    assert "InvalidRequest: jvm_opts: is not text" in caplog.text + capsys.readouterr().out


def test_what_stays_in_memory_is_not_searched_for_garbage(
    seen: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's modules are exempt before ours are imported, these once the first runs are over.

    Only then is there a search, which doesn't go through Airflow's modules.
    """
    calls: list[str] = []
    monkeypatch.setattr(lag, "_exempted", set())
    monkeypatch.setattr(lag, "_imported", set())
    monkeypatch.setattr(lag, "_CALM_SECONDS", 0.0)
    monkeypatch.setattr(lag, "_import_all", lambda: calls.append("import"))
    for name in ("freeze", "collect"):
        monkeypatch.setattr(gc, name, partial(calls.append, name))
    events()
    events()
    assert calls == ["freeze", "import", "collect", "freeze"]


def test_of_the_first_runs_nothing_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Airflow makes for each is garbage that a search has to find, of all but the first."""
    monkeypatch.setattr(lag, "_exempted", set())
    monkeypatch.setattr(lag, "_imported", set())
    monkeypatch.setattr(lag, "_CALM_SECONDS", 0.1)
    monkeypatch.setattr(lag, "_import_all", lambda: None)
    runs: list[weakref.ref[MadeByAirflow]] = []

    class MadeByAirflow:
        def __init__(self) -> None:
            self.itself = self

    async def run() -> None:
        made_by_airflow = MadeByAirflow()
        runs.append(weakref.ref(made_by_airflow))
        await lag._import_pipeline()

    async def story() -> None:
        await asyncio.gather(*(run() for _ in range(20)))
        await asyncio.sleep(0.2)

    gc.disable()
    try:
        asyncio.run(story())
    finally:
        gc.enable()
    assert sum(one() is not None for one in runs) <= 1


def test_what_no_retry_helps_is_not_tried_again(seen: dict[str, Any]) -> None:
    """The second try ends with the first one's failure and XCom, and asks nobody anything.

    Airflow 2.11 makes none in the triggerer, so there it is that of a task that was cleared.
    """
    seen["outcome"] = Observation((), ("orders",), GroupNotFound("No."))
    events(try_number=1)
    del seen["run"]
    (event,) = events(try_number=2)
    assert isinstance(event, TaskFailedEvent)
    assert ("run" in seen) is not AIRFLOW_V_3_0_PLUS


@pytest.mark.parametrize("first", [1, 2])
def test_a_task_that_was_cleared_is_tried_anew(seen: dict[str, Any], first: int) -> None:
    """Its run may go on meanwhile (layout mirror); its tries go on beyond the one retry."""
    seen["outcome"] = Observation((), ("orders",), GroupNotFound("No."))
    events(try_number=first)
    del seen["run"]
    events(try_number=3)
    assert seen["run"].try_number == 3


@pytest.mark.parametrize(
    "errors",
    [[BrokerUnreachable("No.")], [GroupNotFound("No."), ElasticsearchUnreachable("No.")]],
)
def test_what_a_retry_may_help_is_tried_again(seen: dict[str, Any], errors: list[LagError]) -> None:
    """So is a failure whose document isn't there yet, whatever it is."""
    seen["outcome"] = Observation((), ("orders",), errors[0], tuple(errors))
    events(try_number=1)
    events(try_number=2)
    assert seen["run"].try_number == 2


def test_a_cleared_run_and_a_try_that_is_taken_over_begin_anew(seen: dict[str, Any]) -> None:
    """Only a later try of the same start of a run is spared the describe."""
    seen["outcome"] = Observation((), ("orders",), GroupNotFound("No."))
    events(try_number=1)
    cleared = SimpleNamespace(**{**vars(DAG_RUN), "start_date": DUE + timedelta(seconds=40)})
    for dag_run, try_number in ((cleared, 2), (DAG_RUN, 1)):
        del seen["run"]
        events(dag_run, try_number=try_number)
        assert seen["run"].try_number == try_number


def test_a_task_that_a_person_ends_leaves_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3.3 tells the trigger, which writes the document of its run, below any other."""
    written: list[Document] = []

    async def write(*documents: Document, **_: Any) -> Any:
        written.extend(documents)
        return (None,) * len(documents)

    monkeypatch.setattr(elasticsearch_spool, "store", write)
    trigger = trigger_of(DAG_RUN, try_number=1)
    trigger.render_template_fields({"dag_run": DAG_RUN})
    asyncio.run(trigger.on_kill())
    (document,) = written
    assert document.version == ENDED_VERSION
    assert document.source["error"]["type"] == "EndedByAirflow"
    assert "its trigger was cancelled" in document.source["error"]["message"]
    run = run_of(DAG_RUN, SimpleNamespace(dag_id="d", task_id="t", try_number=1), interval_end=DUE)
    assert document.id == run.document_id(mirror="g", topic="orders")


def test_a_trigger_that_is_told_nothing_of_its_run_sends_the_task_to_a_worker(
    seen: dict[str, Any],
) -> None:
    """Without the run there is no identity for a document; the operator can do it all."""
    (event,) = events(None)
    assert type(event) is TriggerEvent
    assert event.payload == {}
    assert "run" not in seen


def test_document_and_xcom_are_the_same_on_worker_and_triggerer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From one output both doors make one document, but for how long they took."""
    stdout = "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID\n"
    description = parse(f"{stdout}g orders 0 90 100 10 - - -\n", "", 0, group="g")
    written: list[Document] = []

    async def collect(**_: Any) -> Collected:
        return Collected(description, DUE + timedelta(seconds=3))

    async def write(*documents: Document, elasticsearch_conn_id: str, index: str) -> Any:
        written.extend(documents)
        return (None,) * len(documents)

    monkeypatch.setattr(pipeline, "collect", collect)
    monkeypatch.setattr(pipeline, "store", write)
    (event,) = events()
    ti = SimpleNamespace(dag_id="dag", task_id="orders", try_number=2)
    context: Any = {"dag_run": DAG_RUN, "ti": ti, "data_interval_end": DUE}
    assert isinstance(event, TaskSuccessEvent)
    assert event.xcoms == {"return_value": TASK.execute(context)}
    first, second = ({**vars_of(one), "source": timeless(one.source)} for one in written)
    assert first == second


def vars_of(document: Document) -> dict[str, Any]:
    return {"id": document.id, "version": document.version}


def timeless(source: Any) -> dict[str, Any]:
    return {**source, "event": {"outcome": source["event"]["outcome"]}}
