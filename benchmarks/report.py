"""What all benchmarks print and write: the machine, a table, a JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from airflow_lag_provider.tune_host import socket_buffer

RESULTS = Path(__file__).with_name("results")


def machine() -> dict[str, Any]:
    """Return what a figure has to be read with: processor, memory, versions, load."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "socket_buffer": socket_buffer(),
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
        "load_1m": round(os.getloadavg()[0], 2),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as a Markdown table; ``None`` is shown as a dash."""
    if not rows:
        return "(nothing was measured)"
    heads = list(rows[0])
    cells = [[_cell(row.get(head)) for head in heads] for row in rows]
    widths = [max(len(line[n]) for line in [heads, *cells]) for n in range(len(heads))]
    lines = [_line(heads, widths), _line(["-" * width for width in widths], widths)]
    return "\n".join([*lines, *(_line(line, widths) for line in cells)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else f"{value}"


def publish(name: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> Path:
    """Print the rows as a table and write them with the machine to ``results/<name>.json``.

    :param more: what else belongs to the file, such as the settings that were used.
    """
    where = machine()
    memory, cores = f"{where['memory_gb']} GB", f"{where['cores']} cores"
    print(f"\n{where['processor']}, {cores}, {memory}, {where['system']}")
    print(table(rows), flush=True)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    body = {"machine": where, **more, "rows": list(rows)}
    file.write_text(json.dumps(body, indent=2, default=str) + "\n", encoding="utf-8")
    print(f"written to {file.relative_to(RESULTS.parent.parent)}")
    return file
