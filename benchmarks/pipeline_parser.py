"""From the tool's output to rows."""

from __future__ import annotations

from typing import Any

from airflow_lag_provider.describe import parse
from benchmarks import outputs
from benchmarks.timing import Course

_SIZES = (54, 1_800, 18_000, 100_000)


def rows(course: Course, *, short: bool) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    found = []
    for size in _SIZES[:2] if short else _SIZES:
        for version in outputs.VERSIONS:
            text = outputs.output(version, size)

            def work(text: str = text, size: int = size) -> None:
                described = parse(text, "", 0, group=outputs.GROUP)
                if len(described.partitions) != size:
                    raise ValueError(f"{len(described.partitions)} rows of {size}")

            found.append(course.row(f"parse, Kafka {version}", size, "row", work))
    return found
