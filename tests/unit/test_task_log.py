"""Lines for a log from an event loop: written in a thread, and nowhere else."""

from __future__ import annotations

import ast
import asyncio
import logging
import threading
from contextvars import ContextVar
from pathlib import Path

import pytest

import airflow_lag_provider
from airflow_lag_provider.task_log import told

PACKAGE = Path(airflow_lag_provider.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def test_the_event_loop_goes_on_while_a_line_is_written() -> None:
    """A log that takes no more lines holds up nothing but the caller."""
    taken = threading.Event()

    async def let_it_go_on() -> None:
        taken.set()

    async def both() -> None:
        await asyncio.gather(told(taken.wait), let_it_go_on())

    asyncio.run(asyncio.wait_for(both(), timeout=20))
    assert taken.is_set()


def test_a_line_belongs_to_its_task(caplog: pytest.LogCaptureFixture) -> None:
    """The writing thread has the caller's context, by which Airflow finds the task's log."""
    task: ContextVar[str] = ContextVar("task")
    seen: list[str] = []

    async def line() -> None:
        task.set("orders")
        await told(lambda: seen.append(task.get()))
        await told(logging.getLogger("lag").warning, "%s of %s", 1, 2, exc_info=ValueError("x"))

    asyncio.run(line())
    assert seen == ["orders"]
    assert caplog.messages == ["1 of 2"]
    assert "ValueError: x" in caplog.text


# On workers, in the DAG processor, or called in a thread.
ELSEWHERE = {
    "alerts.py": {"log_sla_miss"},
    "config_cache.py": {"configured_topics"},
    "dag_factory.py": {"_built"},
    "elasticsearch_flush.py": {"_settle"},
    "ended.py": {"_safely", "_record_run", "_leave"},
    "lag.py": {"execute"},
    "spool_file.py": {"_put_torn_aside"},
}


def _logging_calls(tree: ast.AST) -> list[tuple[str, str]]:
    """Return the functions that call a logger's method, and the calls."""
    return [
        (function.name, ast.unparse(call.func))
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in LEVELS
        and ast.unparse(call.func.value) in {"log", "self.log", "logger"}
    ]


def test_nothing_of_the_package_writes_a_line_on_the_event_loop() -> None:
    """A line that is written on the triggerer's event loop can hold up all triggers for good."""
    found = {
        (file.name, function, call)
        for file in PACKAGE.rglob("*.py")
        for function, call in _logging_calls(ast.parse(file.read_text(encoding="utf-8")))
        if function not in ELSEWHERE.get(file.name, ())
    }
    assert found == set()


def test_a_function_that_writes_a_line_itself_is_found() -> None:
    """The check above sees what it looks for."""
    source = "async def run(self):\n    log.info('x')\n    await told(log.info, 'x')\n"
    assert _logging_calls(ast.parse(source)) == [("run", "log.info")]
