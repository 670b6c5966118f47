"""DAG projects with the repository's own DAG files and a configuration of many topics."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from benchmarks import outputs
from lab.workspace import REPOSITORY


def write(folder: Path, *, topics: int, layout: str = "topic") -> Path:
    """Write one without any part of the laboratory; return the configuration's path."""
    mirror: dict[str, Any] = {
        "ssh_conn_id": "mirrormaker",
        "bootstrap_servers": ["b-1.source:9092", "b-2.source:9092"],
        "group": outputs.GROUP,
        "tool": "/opt/kafka/bin/kafka-consumer-groups.sh",
        "layout": layout,
        "topics": {outputs.topic(number): None for number in range(topics)},
    }
    return write_files(folder, {"mirrors": {"oasis": mirror}})


def write_files(folder: Path, configuration: dict[str, Any]) -> Path:
    """Write the repository's DAG files and a configuration; return the configuration's path."""
    (folder / "dags").mkdir(parents=True)
    (folder / "include").mkdir()
    for file in (REPOSITORY / "dags").glob("*.py"):
        shutil.copy(file, folder / "dags")
    path = folder / "include" / "mirrors.yaml"
    path.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
    return path
