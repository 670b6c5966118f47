"""The wheel that users install."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lab.workspace import REPOSITORY

pytestmark = pytest.mark.integration


def test_the_wheel_holds_all_that_an_installation_needs(tmp_path: Path) -> None:
    """Package, mapping, type marker, licence and entry point are in it, tests and lab are not."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, REPOSITORY],
        check=True,
        capture_output=True,
    )
    (path,) = tmp_path.glob("airflow_lag_provider-*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        mapping = json.loads(wheel.read("airflow_lag_provider/mapping.json"))
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        entries = wheel.read(entry_points).decode()
    assert mapping == json.loads((REPOSITORY / "include" / "mapping.json").read_text())
    assert "apache_airflow_provider" in entries
    assert {"airflow_lag_provider/py.typed", "airflow_lag_provider/operators/lag.py"} <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"airflow_lag_provider"}
