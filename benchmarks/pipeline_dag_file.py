"""From the DAG file to DAGs: what Airflow's DAG processor does with it, by Airflow's functions.

The DAG processor has Airflow in memory and reads each file in a fork of its own, so there neither
this package nor the configuration is ever warm. "Floor" is a file of as many DAGs with an operator
of Airflow that has no arguments: what is left of the time when a package does nothing.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog
from airflow.dag_processing import processor
from airflow.dag_processing.dagbag import BundleDagBag

from benchmarks import outputs, projects
from benchmarks.timing import Course, row

_FLOOR = """
from datetime import datetime
from airflow.sdk import DAG, BaseOperator

for number in range({count}):
    dag = DAG(f"floor-{{number}}", schedule="* * * * *", start_date=datetime(2024, 1, 1),
              catchup=False)
    BaseOperator(task_id="nothing", dag=dag)
    globals()[dag.dag_id] = dag
"""
_ONE = "_AIRFLOW_PARSING_CONTEXT_DAG_ID"
_FORKS = 5


def rows(course: Course, *, short: bool) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    logging.disable(logging.WARNING)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        sizes = (20,) if short else (20, 300, 1_000)
        mirrors = {size: projects.write(Path(folder, str(size)), topics=size) for size in sizes}
        # First, so that these forks start without the package.
        for size, file in mirrors.items():
            found += _in_forks(_dag_file(file), size, times=1 if short else _FORKS)
        for size, file in mirrors.items():
            floor = Path(folder) / f"floor-{size}.py"
            floor.write_text(_FLOOR.format(count=size), encoding="utf-8")
            found += _in_memory(file, floor, size, course)
    return found


def _dag_file(mirrors: Path) -> Path:
    return mirrors.parent.parent / "dags" / "mirror_lag.py"


def _in_forks(dag_file: Path, size: int, *, times: int) -> list[dict[str, Any]]:
    """Return what a fresh child of the DAG processor spends, part by part."""
    context = multiprocessing.get_context("fork")
    seen: list[dict[str, tuple[float, float]]] = []
    for _ in range(times):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            seen.append(pool.submit(_child, dag_file, size).result())
    return [
        row(
            f"{part}, in a fork",
            size,
            "DAG",
            wall=statistics.median(one[part][0] for one in seen),
            cpu=statistics.median(one[part][1] for one in seen),
        )
        for part in seen[0]
    ]


def _child(dag_file: Path, size: int) -> dict[str, tuple[float, float]]:
    bags: list[BundleDagBag] = []
    parts: dict[str, Callable[[], Any]] = {
        "package imported": lambda: importlib.import_module("airflow_lag_provider.dag_factory"),
        "DAG file": lambda: bags.append(_bag(dag_file, size)),
        "serialised by Airflow": lambda: _serialised(bags[0]),
    }
    spent = {}
    for part, work in parts.items():
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        spent[part] = time.perf_counter() - wall, time.process_time() - cpu
    return spent


def _in_memory(mirrors: Path, floor: Path, size: int, course: Course) -> list[dict[str, Any]]:
    """Return what is spent where the package is imported already, as on a worker."""
    from airflow_lag_provider import config

    dag_file = _dag_file(mirrors)

    def anew() -> None:
        os.utime(mirrors)
        _bag(dag_file, size)

    def one_dag() -> None:
        os.utime(mirrors)
        with patch.dict(os.environ, {_ONE: f"consumer_lag.oasis.{outputs.topic(size - 1)}"}):
            _bag(dag_file, 1)

    ours, floors = _bag(dag_file, size), _bag(floor, size)
    return [
        course.row("configuration", size, "topic", lambda: config.load(mirrors)),
        course.row("DAG file", size, "DAG", anew),
        course.row("DAG file, configuration cached", size, "DAG", lambda: _bag(dag_file, size)),
        course.row("DAG file for one task", size, "DAG", one_dag),
        course.row("DAG file, floor", size, "DAG", lambda: _bag(floor, size)),
        course.row("serialised by Airflow", size, "DAG", lambda: _serialised(ours)),
        course.row("serialised by Airflow, floor", size, "DAG", lambda: _serialised(floors)),
    ]


def _bag(dag_file: Path, count: int) -> BundleDagBag:
    """Return the DAGs of a file, read by Airflow.

    :raises ValueError: there aren't as many as expected.
    """
    bag = BundleDagBag(
        dag_folder=dag_file,
        bundle_path=dag_file.parent,
        bundle_name="benchmark",
        load_op_links=False,
    )
    if len(bag.dags) != count:
        raise ValueError(f"{len(bag.dags)} DAGs of {count}: {bag.import_errors}")
    return bag


def _serialised(bag: BundleDagBag) -> None:
    done, errors = processor._serialize_dags(bag, structlog.get_logger())
    if errors or len(done) != len(bag.dags):
        raise ValueError(f"{len(done)} DAGs of {len(bag.dags)}: {errors}")
