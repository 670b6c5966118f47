"""Parser and pipeline without I/O: what they cost, part by part.

    python -m benchmarks.pipeline
    python -m benchmarks.pipeline --parts triggers --profile /tmp/profiles

No network, no database, no laboratory. Each part runs in a process of its own.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.timing import Course

PARTS = ("parser", "documents", "dag_file", "triggers")


def measured(part: str, course: Course, *, short: bool) -> list[dict[str, Any]]:
    """Return the rows of a part; it is imported here, in its own process."""
    module = importlib.import_module(f"benchmarks.pipeline_{part}")
    found: list[dict[str, Any]] = module.rows(course, short=short)
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Measure the parts that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row, at least")
    parser.add_argument("--profile", type=Path, help="folder for pyinstrument's profiles")
    parser.add_argument("--short", action="store_true", help="shows that it runs, in a minute")
    parser.add_argument("--name", default="pipeline", help="of the JSON file")
    chosen = parser.parse_args(words)
    course = Course(seconds=0 if chosen.short else chosen.seconds, profile=chosen.profile)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
        for part in chosen.parts.split(","):
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                rows += pool.submit(measured, part, course, short=chosen.short).result()
    report.publish(chosen.name, rows)


if __name__ == "__main__":
    main()
